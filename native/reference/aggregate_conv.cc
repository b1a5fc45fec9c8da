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
  int64_t channels = 0, offset = 0;
  for (const GridSource& s : op.sources) channels += s.channels();

  Conv2d conv;
  std::vector<double> concatenated;
  static_cast<View&>(conv.x) = view_of(concatenated, {op.y.dim(0), op.y.dim(1), op.y.dim(2), channels});
  for (const GridSource& s : op.sources) {
    CropResize resize;
    resize.source = s;
    resize.infer();
    std::vector<double> resized;
    static_cast<View&>(resize.y) = view_of(resized, resize.y.shape);
    crop_resize(resize, context);
    for (int64_t n = 0; n < conv.x.dim(0); ++n) {
      for (int64_t row = 0; row < conv.x.dim(1); ++row) {
        for (int64_t column = 0; column < conv.x.dim(2); ++column) {
          for (int64_t c = 0; c < s.channels(); ++c) {
            store(conv.x, at(conv.x, n, row, column, offset + c),
                  load(resize.y, at(resize.y, s.batch() == 1 ? 0 : n, row, column, c)));
          }
        }
      }
    }
    offset += s.channels();
  }

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
