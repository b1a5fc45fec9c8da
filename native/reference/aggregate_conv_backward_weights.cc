#include <vector>

#include "reference/kernels.h"

namespace glnet::reference {

// The plain way: the source cropped and resized, then each element's sum.
void aggregate_conv_backward_weights(const AggregateConvBackwardWeights& op, const Context& context) {
  CropResize resize;
  resize.sources = {op.source};
  resize.infer();
  std::vector<double> resized(static_cast<size_t>(resize.y.size()));
  resize.y.data = resized.data();
  resize.y.dtype = DType::float64;
  crop_resize(resize, context);

  const int64_t height = op.dy.dim(1), width = op.dy.dim(2), kernel = op.dweight.dim(2), radius = kernel / 2;
  for (int64_t k = 0; k < op.dweight.dim(0); ++k) {
    for (int64_t c = 0; c < op.source.channels(); ++c) {
      for (int64_t dy = 0; dy < kernel; ++dy) {
        for (int64_t dx = 0; dx < kernel; ++dx) {
          const int64_t element = at(op.dweight, k, op.first + c, dy, dx);
          double sum = load(op.dweight, element);
          for (int64_t n = 0; n < op.dy.dim(0); ++n) {
            const int64_t map = op.source.batch() == 1 ? 0 : n;
            for (int64_t row = 0; row < height; ++row) {
              for (int64_t column = 0; column < width; ++column) {
                const int64_t v = row + dy - radius, u = column + dx - radius;
                if (v < 0 || v >= height || u < 0 || u >= width) continue;
                sum += load(op.dy, at(op.dy, n, row, column, k)) *
                       resized[static_cast<size_t>(at(resize.y, map, v, u, c))];
              }
            }
          }
          store(op.dweight, element, sum);
        }
      }
    }
  }
}

}  // namespace glnet::reference
