#include "cpu/convolution.h"

#include <cstring>
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

void spread_runs(const uint16_t* from, int64_t runs, int64_t length, int64_t room, uint16_t* to) {
  if (length == 3 && room == 4) {  // an image's pixels: by memcpy this takes as long as the convolution
    for (int64_t i = 0; i < runs; ++i, from += 3, to += 4) {
      const uint64_t pixel = from[0] | uint64_t{from[1]} << 16 | uint64_t{from[2]} << 32;
      std::memcpy(to, &pixel, sizeof pixel);
    }
    return;
  }
  for (int64_t i = 0; i < runs; ++i, from += length, to += room) {
    std::memcpy(to, from, static_cast<size_t>(2 * length));
    std::memset(to + length, 0, static_cast<size_t>(2 * (room - length)));
  }
}

}  // namespace glnet::cpu
