#include "cpu/convolution.h"

#include <vector>

#include "cpu/dnnl.h"
#ifdef GLNET_AVX512_KERNELS
#include "cpu/avx512/direct.h"
#include "cpu/avx512/nested_winograd.h"
#include "cpu/avx512/winograd.h"
#endif

namespace glnet::cpu {

std::shared_ptr<const Convolution> Convolution::get(const ConvolutionSpec& spec) {
  return cached_code<Convolution>("convolution", spec, [&]() -> std::shared_ptr<const Convolution> {
#ifdef GLNET_AVX512_KERNELS
    if (NestedWinograd::suits(spec)) return std::make_shared<NestedWinograd>(spec);
    if (Winograd::suits(spec)) return std::make_shared<Winograd>(spec);
    if (DirectConvolution::suits(spec)) return std::make_shared<DirectConvolution>(spec);
#endif
    return std::make_shared<DnnlConvolution>(spec);
  });
}

double Convolution::cost(const ConvolutionSpec& spec) {
#ifdef GLNET_AVX512_KERNELS
  if (NestedWinograd::suits(spec)) return NestedWinograd::cost(spec);
#endif
  const int64_t vectors = (spec.outputs + 15) / 16 * 16;
  return static_cast<double>(vectors * spec.kernel_height * spec.kernel_width);
}

void Convolution::pack_transposed(const float* dense, void* packed) const {
  std::vector<float> transposed(static_cast<size_t>(weight_elements()));
  for (int64_t c = 0; c < spec_.channels; ++c) {
    for (int64_t k = 0; k < spec_.outputs; ++k)
      transposed[static_cast<size_t>(k * spec_.channels + c)] = *dense++;
  }
  pack(transposed.data(), packed);
}

}  // namespace glnet::cpu
