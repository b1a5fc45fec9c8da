#include "cpu/convolution.h"

#include <vector>

#include "cpu/direct.h"
#include "cpu/dnnl.h"
#include "cpu/winograd.h"

namespace glnet::cpu {

std::shared_ptr<const Convolution> Convolution::get(const ConvolutionSpec& spec) {
  return cached_code<Convolution>("convolution", spec, [&]() -> std::shared_ptr<const Convolution> {
    if (Winograd::suits(spec)) return std::make_shared<Winograd>(spec);
    if (DirectConvolution::suits(spec)) return std::make_shared<DirectConvolution>(spec);
    return std::make_shared<DnnlConvolution>(spec);
  });
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
