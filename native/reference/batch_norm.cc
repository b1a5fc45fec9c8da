#include <cmath>

#include "reference/kernels.h"

namespace glnet::reference {

void batch_norm(const BatchNorm& op, const Context&) {
  const int64_t channels = op.x.dim(3);
  for (int64_t i = 0; i < op.x.size(); ++i) {
    const int64_t c = i % channels;
    const double deviation = std::sqrt(load(op.variance, c) + op.epsilon);
    double v = (load(op.x, i) - load(op.mean, c)) / deviation * load(op.weight, c) + load(op.bias, c);
    if (op.residual) v += load(op.residual, i);
    store(op.y, i, op.relu && v < 0 ? 0 : v);
  }
}

}  // namespace glnet::reference
