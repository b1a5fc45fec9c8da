// adam: one step of Adam (Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015), with L2
// decay added to the gradient, for all parameters of a network in one pass. For each number p of a parameter:
//
//   g = gradient_scale * gradient + weight_decay * p
//   m = beta1 * m + (1 - beta1) * g
//   v = beta2 * v + (1 - beta2) * g^2
//   p = p - learning_rate * (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + epsilon)
#pragma once

#include "ops/optimiser.h"

namespace glnet {

struct Adam {
  static constexpr const char* kName = "adam";

  std::vector<InOut> parameters;      ///< any shapes, float32, no tensor twice
  std::vector<InOut> first_moments;   ///< m: as parameters; zeros before the first step
  std::vector<InOut> second_moments;  ///< v: likewise
  std::vector<In> gradients;          ///< as parameters
  std::vector<float> learning_rates;  ///< one for each parameter, 0 or more
  std::vector<float> weight_decays;   ///< likewise
  float beta1 = 0.9f;                 ///< from 0 to before 1
  float beta2 = 0.999f;               ///< likewise
  float epsilon = 1e-8f;              ///< above 0
  float gradient_scale = 1;           ///< factor on the gradients, before the decay: clipping
  int step = 0;                       ///< 1, 2, ...: which step this is

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("parameters", op.parameters);
    visit("firstMoments", op.first_moments);
    visit("secondMoments", op.second_moments);
    visit("gradients", op.gradients);
    visit("learningRates", op.learning_rates);
    visit("weightDecays", op.weight_decays);
    visit("beta1", op.beta1);
    visit("beta2", op.beta2);
    visit("epsilon", op.epsilon);
    visit("gradientScale", op.gradient_scale);
    visit("step", op.step);
  }

  void infer() {
    check_parameters(kName, parameters);
    check_like(kName, "firstMoments", first_moments, parameters);
    check_like(kName, "secondMoments", second_moments, parameters);
    check_like(kName, "gradients", gradients, parameters);
    check_rates(kName, "learningRates", learning_rates, parameters);
    check_rates(kName, "weightDecays", weight_decays, parameters);
    check(beta1 >= 0 && beta1 < 1, kName, ": beta1 ", beta1, " must be from 0 to before 1");
    check(beta2 >= 0 && beta2 < 1, kName, ": beta2 ", beta2, " must be from 0 to before 1");
    check(epsilon > 0 && std::isfinite(epsilon), kName, ": epsilon ", epsilon,
          " must be above 0, and finite");
    check(std::isfinite(gradient_scale), kName, ": gradientScale ", gradient_scale, " must be finite");
    check(step >= 1, kName, ": step ", step, " must be 1 or more");
  }

  /// By what a running mean that began with zeros is too small.
  double correction(float beta) const { return 1 - std::pow(static_cast<double>(beta), step); }

  double multiply_adds() const { return 6 * parameter_count(parameters); }
};

/// What every number of a step needs, the bias corrections worked in: p -= rate * first * m / (sqrt(v) *
/// second
/// + epsilon), with the parameter's own learning rate.
struct AdamStep {
  float beta1, rest1, beta2, rest2;  ///< rest: 1 - beta
  float epsilon, scale;
  float first;   ///< 1 / (1 - beta1^step)
  float second;  ///< 1 / sqrt(1 - beta2^step)

  explicit AdamStep(const Adam& op)
      : beta1(op.beta1),
        rest1(static_cast<float>(1 - static_cast<double>(op.beta1))),
        beta2(op.beta2),
        rest2(static_cast<float>(1 - static_cast<double>(op.beta2))),
        epsilon(op.epsilon),
        scale(op.gradient_scale),
        first(static_cast<float>(1 / op.correction(op.beta1))),
        second(static_cast<float>(1 / std::sqrt(op.correction(op.beta2)))) {}
};

}  // namespace glnet
