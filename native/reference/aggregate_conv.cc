#include <vector>

#include "reference/kernels.h"

namespace glnet::reference {
namespace {

View view_of(std::vector<double>& values, Shape shape) {
  values.resize(static_cast<size_t>(element_count(shape)));
  return {values.data(), std::move(shape), DType::float64, nullptr};
}

}  // namespace

// The plain way: every source cropped and resized, all of them concatenated, one convolution.
void aggregate_conv(const AggregateConv& op, const Context& context) {
  CropResize resize;
  resize.sources = op.sources;
  resize.infer();
  std::vector<double> concatenated;
  static_cast<View&>(resize.y) = view_of(concatenated, resize.y.shape);
  crop_resize(resize, context);

  Conv2d conv;
  static_cast<View&>(conv.x) = resize.y;
  const int64_t channels = conv.x.dim(3);
  std::vector<double> weight;
  const int64_t kernel = op.weight.dim(2);
  static_cast<View&>(conv.weight) = view_of(weight, {op.weight.dim(0), channels, kernel, kernel});
  for (int64_t k = 0; k < op.weight.dim(0); ++k) {
    for (int64_t i = 0; i < channels * kernel * kernel; ++i) {
      store(conv.weight, at(conv.weight, k, 0, 0, i), load(op.weight, at(op.weight, k, op.first, 0, i)));
    }
  }
  conv.bias = op.bias;
  conv.residual = op.addend;
  conv.padding = static_cast<int>(kernel / 2);
  conv.relu = op.relu;
  conv.y = op.y;
  conv2d(conv, context);
}

}  // namespace glnet::reference
