// conv2d: y = relu(conv(x, weight) + bias + residual), zero padding, square stride. No dilation, no groups.
// Without relu NaN stays NaN; with it, NaN may become 0.
#pragma once

#include "core/fields.h"

namespace glnet {

struct Conv2d {
  static constexpr const char* kName = "conv2d";

  In x;            ///< [N, H, W, C]
  In weight;       ///< [K, C, kh, kw]
  Maybe bias;      ///< [K], float32
  Maybe residual;  ///< of y's shape and dtype; must not be y
  int stride = 1;
  int padding = 0;
  bool relu = false;
  Out y;  ///< [N, (H + 2 padding - kh) / stride + 1, ..., K], of x's dtype; accumulated in float32 at least

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("x", op.x);
    visit("weight", op.weight);
    visit("bias", op.bias);
    visit("residual", op.residual);
    visit("stride", op.stride);
    visit("padding", op.padding);
    visit("relu", op.relu);
    visit("y", op.y);
  }

  void infer() {
    check_rank(kName, "x", x, 4);
    check_rank(kName, "weight", weight, 4);
    check(weight.dim(1) == x.dim(3), kName, ": weight ", weight.shape, " takes ", weight.dim(1),
          " channels, and x ", x.shape, " has ", x.dim(3));
    check(weight.dtype == x.dtype, kName, ": weight is ", name_of(weight.dtype), ", x is ", name_of(x.dtype));
    check(stride >= 1 && padding >= 0, kName, ": stride ", stride, " must be at least 1, padding ", padding,
          " at least 0");
    if (bias) check_shape(kName, "bias", bias, {weight.dim(0)});
    const auto side = [&](int64_t length, int64_t kernel) {
      return (length + 2 * padding - kernel) / stride + 1;
    };
    check(x.dim(1) + 2 * padding >= weight.dim(2) && x.dim(2) + 2 * padding >= weight.dim(3), kName, ": x ",
          x.shape, " is smaller than the kernel of weight ", weight.shape);
    y.shape = {x.dim(0), side(x.dim(1), weight.dim(2)), side(x.dim(2), weight.dim(3)), weight.dim(0)};
    y.dtype = x.dtype;
    if (residual) {
      check_shape(kName, "residual", residual, y.shape);
      check_dtype(kName, "residual", residual, y.dtype);
    }
  }

  double multiply_adds() const {
    return static_cast<double>(y.size()) * static_cast<double>(weight.size() / weight.dim(0));
  }
};

}  // namespace glnet
