// sgd: one step of stochastic gradient descent with momentum (Sutskever et al., "On the importance of
// initialization and momentum in deep learning", ICML 2013, the momentum without dampening), with L2 decay
// added to the gradient, for all parameters of a network in one pass. For each number p of a parameter:
//
//   g = gradient_scale * gradient + weight_decay * p
//   m = momentum * m + g
//   p = p - learning_rate * (nesterov ? g + momentum * m : m)
#pragma once

#include "ops/optimiser.h"

namespace glnet {

struct Sgd {
  static constexpr const char* kName = "sgd";

  std::vector<InOut> parameters;      ///< any shapes, float32, no tensor twice
  std::vector<InOut> momenta;         ///< m: as parameters; zeros before the first step
  std::vector<In> gradients;          ///< as parameters
  std::vector<float> learning_rates;  ///< one for each parameter, 0 or more
  std::vector<float> weight_decays;   ///< likewise
  float momentum = 0;                 ///< from 0 to before 1
  bool nesterov = false;              ///< look ahead by the momentum, which must then be above 0
  float gradient_scale = 1;           ///< factor on the gradients, before the decay: clipping

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("parameters", op.parameters);
    visit("momenta", op.momenta);
    visit("gradients", op.gradients);
    visit("learningRates", op.learning_rates);
    visit("weightDecays", op.weight_decays);
    visit("momentum", op.momentum);
    visit("nesterov", op.nesterov);
    visit("gradientScale", op.gradient_scale);
  }

  void infer() {
    check_parameters(kName, parameters);
    check_like(kName, "momenta", momenta, parameters);
    check_like(kName, "gradients", gradients, parameters);
    check_rates(kName, "learningRates", learning_rates, parameters);
    check_rates(kName, "weightDecays", weight_decays, parameters);
    check(momentum >= 0 && momentum < 1, kName, ": momentum ", momentum, " must be from 0 to before 1");
    check(!nesterov || momentum > 0, kName, ": nesterov needs a momentum above 0");
    check(std::isfinite(gradient_scale), kName, ": gradientScale ", gradient_scale, " must be finite");
  }

  double multiply_adds() const { return 4 * parameter_count(parameters); }
};

}  // namespace glnet
