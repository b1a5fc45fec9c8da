// batch_norm: y = relu((x - mean) / sqrt(variance + epsilon) * weight + bias + residual), with given
// statistics.
#pragma once

#include "core/fields.h"

namespace glnet {

struct BatchNorm {
  static constexpr const char* kName = "batch_norm";

  In x;                             ///< [N, H, W, C]
  In weight, bias, mean, variance;  ///< [C], float32
  Maybe residual;                   ///< of x's shape and dtype
  float epsilon = 1e-5f;
  bool relu = false;
  Out y;  ///< of x's shape and dtype

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("x", op.x);
    visit("weight", op.weight);
    visit("bias", op.bias);
    visit("mean", op.mean);
    visit("variance", op.variance);
    visit("residual", op.residual);
    visit("epsilon", op.epsilon);
    visit("relu", op.relu);
    visit("y", op.y);
  }

  void infer() {
    check_rank(kName, "x", x, 4);
    const Shape channels{x.dim(3)};
    const auto parameter = [&](const char* name, const View& v) {
      check_shape(kName, name, v, channels);
      check_float32(kName, name, v);
    };
    parameter("weight", weight);
    parameter("bias", bias);
    parameter("mean", mean);
    parameter("variance", variance);
    if (residual) {
      check_shape(kName, "residual", residual, x.shape);
      check_dtype(kName, "residual", residual, x.dtype);
    }
    y.shape = x.shape;
    y.dtype = x.dtype;
  }

  double multiply_adds() const { return static_cast<double>(x.size()); }
};

}  // namespace glnet
