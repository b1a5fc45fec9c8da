#include "reference/kernels.h"

namespace glnet::reference {

void mse(const Mse& op, const Context&) {
  double sum = 0;
  for (int64_t i = 0; i < op.a.size(); ++i) {
    const double difference = load(op.a, i) - load(op.b, i);
    sum += difference * difference;
    store(op.gradient, i, op.factor() * difference);
  }
  store(op.loss, 0, op.scale * sum / static_cast<double>(op.a.size()));
}

}  // namespace glnet::reference
