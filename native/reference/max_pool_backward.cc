#include <cmath>

#include "reference/kernels.h"

namespace glnet::reference {
namespace {

/// Index in x of the first maximum, or the first NaN, of a window.
int64_t first_maximum(const MaxPoolBackward& op, int64_t n, int64_t row, int64_t column, int64_t c) {
  const View& x = op.x;
  int64_t best = -1;
  for (int64_t i = 0; i < op.kernel; ++i) {
    for (int64_t j = 0; j < op.kernel; ++j) {
      const int64_t r = row * op.stride - op.padding + i, s = column * op.stride - op.padding + j;
      if (r < 0 || s < 0 || r >= x.dim(1) || s >= x.dim(2)) continue;
      const double v = load(x, at(x, n, r, s, c));
      if (std::isnan(v)) return at(x, n, r, s, c);
      if (best < 0 || v > load(x, best)) best = at(x, n, r, s, c);
    }
  }
  return best;
}

}  // namespace

void max_pool_backward(const MaxPoolBackward& op, const Context&) {
  const View &x = op.x, &dy = op.dy;
  for (int64_t n = 0; n < x.dim(0); ++n) {
    for (int64_t r = 0; r < x.dim(1); ++r) {
      for (int64_t s = 0; s < x.dim(2); ++s) {
        for (int64_t c = 0; c < x.dim(3); ++c) {
          const int64_t own = at(x, n, r, s, c);
          double sum = 0;
          for (int64_t row = 0; row < dy.dim(1); ++row) {
            const int64_t top = row * op.stride - op.padding;
            if (r < top || r >= top + op.kernel) continue;
            for (int64_t column = 0; column < dy.dim(2); ++column) {
              const int64_t left = column * op.stride - op.padding;
              if (s < left || s >= left + op.kernel) continue;
              if (first_maximum(op, n, row, column, c) == own) sum += load(dy, at(dy, n, row, column, c));
            }
          }
          store(op.dx, own, sum);
        }
      }
    }
  }
}

}  // namespace glnet::reference
