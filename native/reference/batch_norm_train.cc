#include <cmath>

#include "reference/kernels.h"

namespace glnet::reference {

void batch_norm_train(const BatchNormTrain& op, const Context&) {
  const int64_t channels = op.x.dim(3), pixels = op.pixels();
  const auto n = static_cast<double>(pixels);
  for (int64_t c = 0; c < channels; ++c) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < pixels; ++i) mean += load(op.x, i * channels + c) / n;
    for (int64_t i = 0; i < pixels; ++i) {
      const double d = load(op.x, i * channels + c) - mean;
      variance += d * d / n;
    }
    const double inverse = 1 / std::sqrt(variance + op.epsilon);
    store(op.mean, c, mean);
    store(op.inverse_deviation, c, inverse);
    if (op.momentum != 0) {
      const double old_mean = load(op.running_mean, c), old_var = load(op.running_var, c);
      store(op.running_mean, c, old_mean + op.momentum * (mean - old_mean));
      store(op.running_var, c, old_var + op.momentum * (variance * n / (n - 1) - old_var));
    }
    for (int64_t i = 0; i < pixels; ++i) {
      const int64_t at = i * channels + c;
      double v = (load(op.x, at) - mean) * inverse * load(op.weight, c) + load(op.bias, c);
      if (op.residual) v += load(op.residual, at);
      store(op.y, at, op.relu && v < 0 ? 0 : v);
    }
  }
}

}  // namespace glnet::reference
