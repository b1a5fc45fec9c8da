// max_pool: the largest value of each window; padding never wins. NaN wins over everything.
#pragma once

#include "core/fields.h"

namespace glnet {

/// Checks the arguments of `op` and returns the shape of x pooled.
inline Shape pooled_shape(const char* op, const View& x, int kernel, int stride, int padding) {
  check_rank(op, "x", x, 4);
  check(kernel >= 1 && stride >= 1, op, ": kernel ", kernel, " and stride ", stride, " must be at least 1");
  check(padding >= 0 && 2 * padding <= kernel, op, ": padding ", padding,
        " must be from 0 to half the kernel, ", kernel);
  check(x.dim(1) + 2 * padding >= kernel && x.dim(2) + 2 * padding >= kernel, op, ": x ", x.shape,
        " is smaller than the kernel, ", kernel);
  const auto side = [&](int64_t length) { return (length + 2 * padding - kernel) / stride + 1; };
  return {x.dim(0), side(x.dim(1)), side(x.dim(2)), x.dim(3)};
}

struct MaxPool {
  static constexpr const char* kName = "max_pool";

  In x;  ///< [N, H, W, C]
  int kernel = 3;
  int stride = 2;
  int padding = 1;
  Out y;  ///< [N, (H + 2 padding - kernel) / stride + 1, ..., C], of x's dtype

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("x", op.x);
    visit("kernel", op.kernel);
    visit("stride", op.stride);
    visit("padding", op.padding);
    visit("y", op.y);
  }

  void infer() {
    y.shape = pooled_shape(kName, x, kernel, stride, padding);
    y.dtype = x.dtype;
  }

  double multiply_adds() const { return 0; }
};

}  // namespace glnet
