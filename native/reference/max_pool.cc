#include <cmath>
#include <limits>

#include "reference/kernels.h"

namespace glnet::reference {

void max_pool(const MaxPool& op, const Context&) {
  const View &x = op.x, &y = op.y;
  for (int64_t n = 0; n < y.dim(0); ++n) {
    for (int64_t row = 0; row < y.dim(1); ++row) {
      for (int64_t column = 0; column < y.dim(2); ++column) {
        for (int64_t c = 0; c < y.dim(3); ++c) {
          double largest = -std::numeric_limits<double>::infinity();
          for (int64_t i = 0; i < op.kernel; ++i) {
            for (int64_t j = 0; j < op.kernel; ++j) {
              const int64_t r = row * op.stride - op.padding + i, s = column * op.stride - op.padding + j;
              if (r < 0 || s < 0 || r >= x.dim(1) || s >= x.dim(2)) continue;
              const double v = load(x, at(x, n, r, s, c));
              if (v > largest || std::isnan(v)) largest = v;
            }
          }
          store(y, at(y, n, row, column, c), largest);
        }
      }
    }
  }
}

}  // namespace glnet::reference
