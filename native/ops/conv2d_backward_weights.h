// conv2d_backward_weights: the gradient of a loss with respect to conv2d's weight, from that with respect to
// what it computes before its relu:
//
//   dweight[k, c, r, s] += sum over n, row, column of
//                          dy[n, row, column, k] * x[n, row * stride - padding + r, column * stride - padding
//                          + s, c]
//
// with zero outside of x. A batch's sum is complete before it is added.
#pragma once

#include "ops/conv2d.h"

namespace glnet {

struct Conv2dBackwardWeights {
  static constexpr const char* kName = "conv2d_backward_weights";

  In x;             ///< [N, H, W, C], float32
  In dy;            ///< [N, h, w, K], float32; h and w as conv2d gives them for x
  int stride = 1;   ///< of conv2d
  int padding = 0;  ///< of conv2d
  InOut dweight;    ///< [K, C, kh, kw], float32: added to

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("x", op.x);
    visit("dy", op.dy);
    visit("stride", op.stride);
    visit("padding", op.padding);
    visit("dweight", op.dweight);
  }

  void infer() {
    check_rank(kName, "x", x, 4);
    check_rank(kName, "dy", dy, 4);
    check_rank(kName, "dweight", dweight, 4);
    check_float32(kName, "x", x);
    check_dtype(kName, "dy", dy, x.dtype);
    check_dtype(kName, "dweight", dweight, x.dtype);
    check_shape(kName, "dy", dy, conv2d_shape(kName, x.shape, dweight.shape, stride, padding));
  }

  double multiply_adds() const {
    return static_cast<double>(dy.size()) * static_cast<double>(dweight.size() / dweight.dim(0));
  }
};

}  // namespace glnet
