#include "reference/kernels.h"

namespace glnet::reference {

void sgd(const Sgd& op, const Context&) {
  for (size_t n = 0; n < op.parameters.size(); ++n) {
    const View &p = op.parameters[n], &m = op.momenta[n];
    for (int64_t i = 0; i < p.size(); ++i) {
      const double g = op.gradient_scale * load(op.gradients[n], i) + op.weight_decays[n] * load(p, i);
      const double momentum = op.momentum * load(m, i) + g;
      store(m, i, momentum);
      store(p, i, load(p, i) - op.learning_rates[n] * (op.nesterov ? g + op.momentum * momentum : momentum));
    }
  }
}

}  // namespace glnet::reference
