// batch_norm_backward: the gradients of batch_norm_train, whose mean and deviation depend on x. With g = dy,
// 0 where a fused relu gave 0, z = (x - mean) inverse_deviation, and means over each channel's pixels:
//
//   dx = weight inverse_deviation (g - mean(g) - z mean(g z)),  dweight += sum(g z),  dbias += sum(g)
//
// The gradient of a residual is g: relu_backward gives it.
#pragma once

#include "core/fields.h"

namespace glnet {

struct BatchNormBackward {
  static constexpr const char* kName = "batch_norm_backward";

  In dy;                       ///< [N, H, W, C], float32
  In x;                        ///< of dy's shape and dtype: what was normalised
  In weight;                   ///< [C], float32
  In mean, inverse_deviation;  ///< [C], float32: outputs of batch_norm_train
  Maybe y;                     ///< of dy's shape and dtype, if relu was fused: dy counts for 0 where y <= 0;
                               ///< where y is NaN it counts
  InOut dweight, dbias;        ///< [C], float32: added to
  Out dx;                      ///< of dy's shape and dtype

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("dy", op.dy);
    visit("x", op.x);
    visit("weight", op.weight);
    visit("mean", op.mean);
    visit("inverseDeviation", op.inverse_deviation);
    visit("y", op.y);
    visit("dweight", op.dweight);
    visit("dbias", op.dbias);
    visit("dx", op.dx);
  }

  void infer() {
    check_rank(kName, "dy", dy, 4);
    check_float32(kName, "dy", dy);
    const auto map = [&](const char* name, const View& v) {
      check_shape(kName, name, v, dy.shape);
      check_dtype(kName, name, v, dy.dtype);
    };
    map("x", x);
    if (y) map("y", y);
    const auto parameter = [&](const char* name, const View& v) {
      check_shape(kName, name, v, {dy.dim(3)});
      check_float32(kName, name, v);
    };
    parameter("weight", weight);
    parameter("mean", mean);
    parameter("inverseDeviation", inverse_deviation);
    parameter("dweight", dweight);
    parameter("dbias", dbias);
    dx.shape = dy.shape;
    dx.dtype = dy.dtype;
  }

  /// Values of each channel.
  int64_t pixels() const { return dy.dim(0) * dy.dim(1) * dy.dim(2); }

  double multiply_adds() const { return 3 * static_cast<double>(dy.size()); }
};

}  // namespace glnet
