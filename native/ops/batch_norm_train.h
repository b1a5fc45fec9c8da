// batch_norm_train: y = relu((x - mean) / sqrt(variance + epsilon) * weight + bias + residual), with each
// channel's mean and variance over the batch's pixels (divided by their number n); running statistics take
// a share `momentum` of the batch's, the variance of which is divided by n - 1 for them. A channel with a NaN
// or an infinity becomes NaN.
#pragma once

#include <cmath>

#include "core/fields.h"

namespace glnet {

struct BatchNormTrain {
  static constexpr const char* kName = "batch_norm_train";

  In x;                             ///< [N, H, W, C], float32; N H W is n, 2 or more
  In weight, bias;                  ///< [C], float32
  InOut running_mean, running_var;  ///< [C], float32: r becomes r + momentum (batch's - r)
  Maybe residual;                   ///< of x's shape and dtype
  float epsilon = 1e-5f;            ///< above 0
  float momentum = 0.1f;            ///< 0 to 1; 0 leaves the running statistics bit for bit
  bool relu = false;                ///< NaN stays NaN
  Out y;                            ///< of x's shape and dtype
  Out mean;                         ///< [C], float32
  Out inverse_deviation;            ///< [C], float32: 1 / sqrt(variance + epsilon)

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("x", op.x);
    visit("weight", op.weight);
    visit("bias", op.bias);
    visit("runningMean", op.running_mean);
    visit("runningVar", op.running_var);
    visit("residual", op.residual);
    visit("epsilon", op.epsilon);
    visit("momentum", op.momentum);
    visit("relu", op.relu);
    visit("y", op.y);
    visit("mean", op.mean);
    visit("inverseDeviation", op.inverse_deviation);
  }

  void infer() {
    check_rank(kName, "x", x, 4);
    check_float32(kName, "x", x);
    check(pixels() >= 2, kName, ": x ", x.shape,
          " has one value a channel, which has no variance; give at least two pixels, or use batch_norm");
    const auto parameter = [&](const char* name, const View& v) {
      check_shape(kName, name, v, {x.dim(3)});
      check_float32(kName, name, v);
    };
    parameter("weight", weight);
    parameter("bias", bias);
    parameter("runningMean", running_mean);
    parameter("runningVar", running_var);
    if (residual) {
      check_shape(kName, "residual", residual, x.shape);
      check_dtype(kName, "residual", residual, x.dtype);
    }
    check(epsilon > 0 && std::isfinite(epsilon), kName, ": epsilon ", epsilon,
          " must be above 0, and finite");
    check(momentum >= 0 && momentum <= 1, kName, ": momentum ", momentum, " must be from 0 to 1");
    y.shape = x.shape;
    mean.shape = inverse_deviation.shape = {x.dim(3)};
    y.dtype = mean.dtype = inverse_deviation.dtype = x.dtype;
  }

  /// Values of each channel.
  int64_t pixels() const { return x.dim(0) * x.dim(1) * x.dim(2); }

  double multiply_adds() const { return 3 * static_cast<double>(x.size()); }
};

}  // namespace glnet
