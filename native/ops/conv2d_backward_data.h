// conv2d_backward_data: the gradient of a loss with respect to conv2d's x, from that with respect to what it
// computes before its relu: the adjoint of x -> conv(x, weight), applied to dy.
//
//   dx[n, i, j, c] = addend[n, i, j, c] + sum over k, r, s and the (row, column) with
//                    row * stride - padding + r = i, column * stride - padding + s = j
//                    of dy[n, row, column, k] * weight[k, c, r, s]
#pragma once

#include "ops/conv2d.h"

namespace glnet {

struct Conv2dBackwardData {
  static constexpr const char* kName = "conv2d_backward_data";

  In dy;         ///< [N, h, w, K], float32; h and w as conv2d gives them for an x of height x width
  In weight;     ///< [K, C, kh, kw], float32
  Maybe addend;  ///< [N, height, width, C], float32: a gradient of x that has already arrived
  int height = 0, width = 0;  ///< of x, in pixels
  int stride = 1;             ///< of conv2d
  int padding = 0;            ///< of conv2d
  Out dx;                     ///< [N, height, width, C], float32

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("dy", op.dy);
    visit("weight", op.weight);
    visit("addend", op.addend);
    visit("height", op.height);
    visit("width", op.width);
    visit("stride", op.stride);
    visit("padding", op.padding);
    visit("dx", op.dx);
  }

  void infer() {
    check_rank(kName, "dy", dy, 4);
    check_rank(kName, "weight", weight, 4);
    check_float32(kName, "dy", dy);
    check_dtype(kName, "weight", weight, dy.dtype);
    check(height >= 1 && width >= 1, kName, ": x of ", height, " x ", width, " is empty");
    dx.shape = {dy.dim(0), height, width, weight.dim(1)};
    dx.dtype = dy.dtype;
    check_shape(kName, "dy", dy, conv2d_shape(kName, dx.shape, weight.shape, stride, padding));
    if (addend) {
      check_shape(kName, "addend", addend, dx.shape);
      check_dtype(kName, "addend", addend, dy.dtype);
    }
  }

  double multiply_adds() const {
    return static_cast<double>(dy.size()) * static_cast<double>(weight.size() / weight.dim(0));
  }
};

}  // namespace glnet
