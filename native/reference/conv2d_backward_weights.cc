#include <vector>

#include "reference/kernels.h"

namespace glnet::reference {

void conv2d_backward_weights(const Conv2dBackwardWeights& op, const Context&) {
  const int64_t channels = op.x.dim(3), kernel_height = op.dweight.dim(2), kernel_width = op.dweight.dim(3);
  std::vector<double> x;
  for (int64_t i = 0; i < op.x.size(); ++i) x.push_back(load(op.x, i));
  std::vector<double> sums(static_cast<size_t>(op.dweight.size()));  // as [K, kh, kw, C]
  for (int64_t n = 0; n < op.dy.dim(0); ++n) {
    for (int64_t row = 0; row < op.dy.dim(1); ++row) {
      for (int64_t column = 0; column < op.dy.dim(2); ++column) {
        for (int64_t k = 0; k < op.dy.dim(3); ++k) {
          const double slope = load(op.dy, at(op.dy, n, row, column, k));
          for (int64_t i = 0; i < kernel_height; ++i) {
            for (int64_t j = 0; j < kernel_width; ++j) {
              const int64_t y = row * op.stride - op.padding + i, z = column * op.stride - op.padding + j;
              if (y < 0 || y >= op.x.dim(1) || z < 0 || z >= op.x.dim(2)) continue;
              const double* pixel = x.data() + at(op.x, n, y, z, 0);
              double* tap = sums.data() + ((k * kernel_height + i) * kernel_width + j) * channels;
              for (int64_t c = 0; c < channels; ++c) tap[c] += slope * pixel[c];
            }
          }
        }
      }
    }
  }
  size_t next = 0;
  for (int64_t k = 0; k < op.dweight.dim(0); ++k) {
    for (int64_t i = 0; i < kernel_height; ++i) {
      for (int64_t j = 0; j < kernel_width; ++j) {
        for (int64_t c = 0; c < channels; ++c) {
          const int64_t to = at(op.dweight, k, c, i, j);
          store(op.dweight, to, load(op.dweight, to) + sums[next++]);
        }
      }
    }
  }
}

}  // namespace glnet::reference
