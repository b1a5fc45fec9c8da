#include <vector>

#include "reference/kernels.h"

namespace glnet::reference {

// The plain way: the gradient of the resized source, then of its crop and resizes.
void aggregate_conv_backward_data(const AggregateConvBackwardData& op, const Context& context) {
  const MapGeometry& s = op.source;
  const int64_t height = s.height(), width = s.width(), channels = s.channels();
  const int64_t outputs = op.weight.dim(0), kernel = op.weight.dim(2), radius = kernel / 2;
  std::vector<double> resized(static_cast<size_t>(s.batch() * height * width * channels));
  CropResizeBackward resize{{}, s, op.addend, op.dx};
  static_cast<View&>(resize.dy) = {
      resized.data(), {s.batch(), height, width, channels}, DType::float64, nullptr};

  // Each dy gives to the pixels that its taps read, of its patch or of the one that all patches share.
  for (int64_t n = 0; n < op.dy.dim(0); ++n) {
    const int64_t map = s.batch() == 1 ? 0 : n;
    for (int64_t row = 0; row < height; ++row) {
      for (int64_t column = 0; column < width; ++column) {
        for (int64_t dy = 0; dy < kernel; ++dy) {
          for (int64_t dx = 0; dx < kernel; ++dx) {
            const int64_t v = row + dy - radius, u = column + dx - radius;
            if (v < 0 || v >= height || u < 0 || u >= width) continue;
            for (int64_t k = 0; k < outputs; ++k) {
              const double value = load(op.dy, at(op.dy, n, row, column, k));
              for (int64_t c = 0; c < channels; ++c) {
                resized[static_cast<size_t>(at(resize.dy, map, v, u, c))] +=
                    value * load(op.weight, at(op.weight, k, op.first + c, dy, dx));
              }
            }
          }
        }
      }
    }
  }
  crop_resize_backward(resize, context);
}

}  // namespace glnet::reference
