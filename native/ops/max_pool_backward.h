// max_pool_backward: the gradient of max_pool. Each element of x gets the sum, row by row, of the dy of those
// windows in which it is the first maximum, row by row; the first NaN, where there are any. Computed as a
// gather, so that an element is written once.
#pragma once

#include "ops/max_pool.h"

namespace glnet {

struct MaxPoolBackward {
  static constexpr const char* kName = "max_pool_backward";

  In dy;  ///< of max_pool's shape, float32
  In x;   ///< [N, H, W, C], of dy's dtype
  int kernel = 3;
  int stride = 2;
  int padding = 1;
  Out dx;  ///< of x's shape and dtype

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("dy", op.dy);
    visit("x", op.x);
    visit("kernel", op.kernel);
    visit("stride", op.stride);
    visit("padding", op.padding);
    visit("dx", op.dx);
  }

  void infer() {
    check_float32(kName, "x", x);
    check_shape(kName, "dy", dy, pooled_shape(kName, x, kernel, stride, padding));
    check_dtype(kName, "dy", dy, x.dtype);
    dx.shape = x.shape;
    dx.dtype = x.dtype;
  }

  double multiply_adds() const { return 0; }
};

}  // namespace glnet
