// conv2d: y = relu(conv(x, weight) + bias + residual), zero padding, square stride. No dilation, no groups.
// Without relu NaN stays NaN; with it, NaN may become 0. With pool y is what max_pool then makes of it.
#pragma once

#include "ops/max_pool.h"

namespace glnet {

/// Checks that `weight` [K, C, kh, kw] can be applied to an x [N, H, W, C]; returns the shape of the result.
inline Shape conv2d_shape(const char* op, const Shape& x, const Shape& weight, int stride, int padding) {
  check(weight[1] == x[3], op, ": weight ", weight, " takes ", weight[1], " channels, and x ", x, " has ",
        x[3]);
  check(stride >= 1 && padding >= 0, op, ": stride ", stride, " must be at least 1, padding ", padding,
        " at least 0");
  check(x[1] + 2 * padding >= weight[2] && x[2] + 2 * padding >= weight[3], op, ": x ", x,
        " is smaller than the kernel of weight ", weight);
  const auto side = [&](int64_t length, int64_t kernel) {
    return (length + 2 * padding - kernel) / stride + 1;
  };
  return {x[0], side(x[1], weight[2]), side(x[2], weight[3]), weight[0]};
}

struct Conv2d {
  static constexpr const char* kName = "conv2d";

  In x;            ///< [N, H, W, C]
  In weight;       ///< [K, C, kh, kw]
  Maybe bias;      ///< [K], float32
  Maybe residual;  ///< of y's shape and dtype; must not be y
  int stride = 1;
  int padding = 0;
  bool relu = false;
  bool overwrite = false;  ///< y takes the residual's memory: it is read for the last time
  bool pool = false;       ///< 3 x 3, stride 2, padding 1; only with relu and without residual
  /// [N, h, w, K] with h = (H + 2 padding - kh) / stride + 1, or pooled [N, (h + 1) / 2, ...]; of x's dtype;
  /// accumulated in float32 at least
  Out y;

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("x", op.x);
    visit("weight", op.weight);
    visit("bias", op.bias);
    visit("residual", op.residual);
    visit("stride", op.stride);
    visit("padding", op.padding);
    visit("relu", op.relu);
    visit("overwrite", op.overwrite);
    visit("pool", op.pool);
    visit("y", op.y);
  }

  const View* reused() const { return overwrite ? &residual : nullptr; }

  void infer() {
    check_rank(kName, "x", x, 4);
    check_rank(kName, "weight", weight, 4);
    check(!overwrite || residual, kName, ": there is no residual to overwrite");
    check(!overwrite || residual.data != x.data, kName, ": x cannot be overwritten while it is read");
    check(!pool || (relu && !residual), kName, ": it pools only with relu and without a residual");
    check(weight.dtype == x.dtype, kName, ": weight is ", name_of(weight.dtype), ", x is ", name_of(x.dtype));
    y.shape = conv2d_shape(kName, x.shape, weight.shape, stride, padding);
    if (bias) check_shape(kName, "bias", bias, {weight.dim(0)});
    y.dtype = x.dtype;
    if (residual) {
      check_shape(kName, "residual", residual, y.shape);
      check_dtype(kName, "residual", residual, y.dtype);
    }
    if (pool) y.shape = pooled(y).y.shape;
  }

  /// The same without `pool`: y's shape and dtype are set.
  Conv2d unpooled() const {
    Conv2d op = *this;
    op.pool = false;
    op.infer();
    return op;
  }

  /// What `pool` makes of the map.
  static MaxPool pooled(const View& map) {
    MaxPool op{.x = {map}, .kernel = 3, .stride = 2, .padding = 1, .y = {}};
    op.infer();
    return op;
  }

  double multiply_adds() const {
    return static_cast<double>(unpooled().y.size()) * static_cast<double>(weight.size() / weight.dim(0));
  }
};

}  // namespace glnet
