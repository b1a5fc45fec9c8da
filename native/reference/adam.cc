#include <cmath>

#include "reference/kernels.h"

namespace glnet::reference {

void adam(const Adam& op, const Context&) {
  const double beta1 = op.beta1, beta2 = op.beta2;
  for (size_t n = 0; n < op.parameters.size(); ++n) {
    const View &p = op.parameters[n], &m = op.first_moments[n], &v = op.second_moments[n];
    for (int64_t i = 0; i < p.size(); ++i) {
      const double g = op.gradient_scale * load(op.gradients[n], i) + op.weight_decays[n] * load(p, i);
      const double first = beta1 * load(m, i) + (1 - beta1) * g;
      const double second = beta2 * load(v, i) + (1 - beta2) * g * g;
      store(m, i, first);
      store(v, i, second);
      const double mean = first / (1 - std::pow(beta1, op.step)),
                   square = second / (1 - std::pow(beta2, op.step));
      store(p, i, load(p, i) - op.learning_rates[n] * mean / (std::sqrt(square) + op.epsilon));
    }
  }
}

}  // namespace glnet::reference
