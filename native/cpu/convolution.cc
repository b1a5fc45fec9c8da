#include "cpu/convolution.h"

#include <vector>

#include "core/error.h"
#include "cpu/convolutions/direct.h"
#include "cpu/convolutions/nested_winograd.h"
#include "cpu/convolutions/winograd.h"

namespace glnet::cpu {

std::shared_ptr<const Convolution> Convolution::get(const ConvolutionSpec& spec) {
  const bool narrow = spec.input == DType::bfloat16;
  if ((spec.input != DType::float32 && !narrow) ||
      (spec.output != DType::float32 && !(narrow && spec.output == DType::bfloat16))) {
    fail(ErrorCode::invalid_argument, "convolution: the CPU does not compute in ",
         glnet::name_of(spec.input == DType::float32 || narrow ? spec.output : spec.input));
  }
  if (NestedWinograd::suits(spec)) return std::make_shared<NestedWinograd>(spec);
  if (Winograd::suits(spec)) return std::make_shared<Winograd>(spec);
  return std::make_shared<DirectConvolution>(spec);
}

double Convolution::cost(const ConvolutionSpec& spec) {
  if (NestedWinograd::suits(spec)) return NestedWinograd::cost(spec);
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
