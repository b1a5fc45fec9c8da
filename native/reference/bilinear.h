// Bilinear interpolation of one map, plainly.
#pragma once

#include <algorithm>
#include <cstdint>

namespace glnet::reference {

/// Between which two pixels of `in` an output position lies; see ops/resize.h.
struct BilinearPosition {
  int64_t first, second;
  double first_weight, second_weight;

  /// In fractions of 2 * out, so that a position on a pixel is just on it.
  BilinearPosition(int64_t i, int64_t in, int64_t out) {
    const int64_t position = std::max<int64_t>((2 * i + 1) * in - out, 0);
    first = position / (2 * out);
    second = std::min(first + 1, in - 1);
    second_weight = static_cast<double>(position % (2 * out)) / static_cast<double>(2 * out);
    first_weight = 1 - second_weight;
  }
};

/// x: [h, w, c]; y: [h2, w2, c]. A pixel of weight zero has no effect, even if it is NaN.
inline void bilinear(const double* x, int64_t h, int64_t w, int64_t c, double* y, int64_t h2, int64_t w2) {
  for (int64_t row = 0; row < h2; ++row) {
    for (int64_t column = 0; column < w2; ++column) {
      const BilinearPosition v(row, h, h2), u(column, w, w2);
      for (int64_t k = 0; k < c; ++k) {
        double sum = 0;
        const auto tap = [&](int64_t r, int64_t s, double weight) {
          if (weight != 0) sum += weight * x[(r * w + s) * c + k];
        };
        tap(v.first, u.first, v.first_weight * u.first_weight);
        tap(v.first, u.second, v.first_weight * u.second_weight);
        tap(v.second, u.first, v.second_weight * u.first_weight);
        tap(v.second, u.second, v.second_weight * u.second_weight);
        y[(row * w2 + column) * c + k] = sum;
      }
    }
  }
}

/// The adjoint of `bilinear`: dx [h, w, c], which starts as zero, of dy [h2, w2, c].
inline void bilinear_backward(const double* dy, int64_t h2, int64_t w2, int64_t c, double* dx, int64_t h,
                              int64_t w) {
  for (int64_t row = 0; row < h2; ++row) {
    for (int64_t column = 0; column < w2; ++column) {
      const BilinearPosition v(row, h, h2), u(column, w, w2);
      for (int64_t k = 0; k < c; ++k) {
        const double value = dy[(row * w2 + column) * c + k];
        const auto tap = [&](int64_t r, int64_t s, double weight) {
          if (weight != 0) dx[(r * w + s) * c + k] += weight * value;
        };
        tap(v.first, u.first, v.first_weight * u.first_weight);
        tap(v.first, u.second, v.first_weight * u.second_weight);
        tap(v.second, u.first, v.second_weight * u.first_weight);
        tap(v.second, u.second, v.second_weight * u.second_weight);
      }
    }
  }
}

}  // namespace glnet::reference
