#include <vector>

#include "reference/kernels.h"

namespace glnet::reference {

void conv2d_backward_data(const Conv2dBackwardData& op, const Context&) {
  const int64_t channels = op.weight.dim(1), kernel_height = op.weight.dim(2),
                kernel_width = op.weight.dim(3);
  std::vector<double> dx, weight;  // weight as [K, kh, kw, C]
  for (int64_t i = 0; i < op.dx.size(); ++i) dx.push_back(op.addend ? load(op.addend, i) : 0);
  for (int64_t k = 0; k < op.weight.dim(0); ++k) {
    for (int64_t i = 0; i < kernel_height; ++i) {
      for (int64_t j = 0; j < kernel_width; ++j) {
        for (int64_t c = 0; c < channels; ++c) weight.push_back(load(op.weight, at(op.weight, k, c, i, j)));
      }
    }
  }
  for (int64_t n = 0; n < op.dy.dim(0); ++n) {
    for (int64_t row = 0; row < op.dy.dim(1); ++row) {
      for (int64_t column = 0; column < op.dy.dim(2); ++column) {
        for (int64_t k = 0; k < op.dy.dim(3); ++k) {
          const double slope = load(op.dy, at(op.dy, n, row, column, k));
          for (int64_t i = 0; i < kernel_height; ++i) {
            for (int64_t j = 0; j < kernel_width; ++j) {
              const int64_t y = row * op.stride - op.padding + i, z = column * op.stride - op.padding + j;
              if (y < 0 || y >= op.height || z < 0 || z >= op.width) continue;
              double* pixel = dx.data() + at(op.dx, n, y, z, 0);
              const double* tap = weight.data() + ((k * kernel_height + i) * kernel_width + j) * channels;
              for (int64_t c = 0; c < channels; ++c) pixel[c] += slope * tap[c];
            }
          }
        }
      }
    }
  }
  for (int64_t i = 0; i < op.dx.size(); ++i) store(op.dx, i, dx[static_cast<size_t>(i)]);
}

}  // namespace glnet::reference
