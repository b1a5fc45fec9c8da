#include "reference/kernels.h"

namespace glnet::reference {

void batch_norm_backward(const BatchNormBackward& op, const Context&) {
  const int64_t channels = op.dy.dim(3), pixels = op.pixels();
  const auto n = static_cast<double>(pixels);
  for (int64_t c = 0; c < channels; ++c) {
    const double mean = load(op.mean, c), inverse = load(op.inverse_deviation, c);
    const auto gradient = [&](int64_t at) { return op.y && load(op.y, at) <= 0 ? 0 : load(op.dy, at); };
    const auto normalised = [&](int64_t at) { return (load(op.x, at) - mean) * inverse; };
    double sum = 0, product = 0;
    for (int64_t i = 0; i < pixels; ++i) {
      const int64_t at = i * channels + c;
      sum += gradient(at);
      product += gradient(at) * normalised(at);
    }
    store(op.dbias, c, load(op.dbias, c) + sum);
    store(op.dweight, c, load(op.dweight, c) + product);
    for (int64_t i = 0; i < pixels; ++i) {
      const int64_t at = i * channels + c;
      store(op.dx, at,
            load(op.weight, c) * inverse * (gradient(at) - sum / n - normalised(at) * product / n));
    }
  }
}

}  // namespace glnet::reference
