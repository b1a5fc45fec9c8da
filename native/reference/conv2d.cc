#include <vector>

#include "reference/kernels.h"

namespace glnet::reference {

void conv2d(const Conv2d& op, const Context& context) {
  if (op.pool) {
    Conv2d plain = op.unpooled();
    std::vector<double> map(static_cast<size_t>(plain.y.size()));
    plain.y.dtype = DType::float64;
    plain.y.data = map.data();
    conv2d(plain, context);
    MaxPool pool = Conv2d::pooled(plain.y);
    pool.y = op.y;
    return max_pool(pool, context);
  }
  const int64_t channels = op.x.dim(3), kernel_height = op.weight.dim(2), kernel_width = op.weight.dim(3);
  std::vector<double> x, weight;  // weight as [K, kh, kw, C]
  for (int64_t i = 0; i < op.x.size(); ++i) x.push_back(load(op.x, i));
  for (int64_t k = 0; k < op.weight.dim(0); ++k) {
    for (int64_t i = 0; i < kernel_height; ++i) {
      for (int64_t j = 0; j < kernel_width; ++j) {
        for (int64_t c = 0; c < channels; ++c) weight.push_back(load(op.weight, at(op.weight, k, c, i, j)));
      }
    }
  }
  for (int64_t n = 0; n < op.y.dim(0); ++n) {
    for (int64_t row = 0; row < op.y.dim(1); ++row) {
      for (int64_t column = 0; column < op.y.dim(2); ++column) {
        for (int64_t k = 0; k < op.y.dim(3); ++k) {
          double sum = op.bias ? load(op.bias, k) : 0;
          for (int64_t i = 0; i < kernel_height; ++i) {
            for (int64_t j = 0; j < kernel_width; ++j) {
              const int64_t y = row * op.stride - op.padding + i, z = column * op.stride - op.padding + j;
              if (y < 0 || y >= op.x.dim(1) || z < 0 || z >= op.x.dim(2)) continue;
              const double* pixel = x.data() + at(op.x, n, y, z, 0);
              const double* tap = weight.data() + ((k * kernel_height + i) * kernel_width + j) * channels;
              for (int64_t c = 0; c < channels; ++c) sum += pixel[c] * tap[c];
            }
          }
          const int64_t to = at(op.y, n, row, column, k);
          if (op.residual) sum += load(op.residual, to);
          store(op.y, to, op.relu && sum < 0 ? 0 : sum);
        }
      }
    }
  }
}

}  // namespace glnet::reference
