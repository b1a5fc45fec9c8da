#pragma once

#include <cmath>

#include "test/cases/parameters.h"
#include "test/harness.h"

namespace glnet::test {

/// Groups of different rates; moments as in the middle of a training, with which gradients do not cancel.
inline Adam make_adam(Builder& b, const std::vector<Shape>& shapes, int step) {
  Adam op;
  op.parameters = make_list<InOut>(b, shapes);
  op.first_moments = make_list<InOut>(b, shapes, 0.2, 0.4);
  op.second_moments = make_list<InOut>(b, shapes, 1e-4, 0.1);
  op.gradients = make_list<In>(b, shapes);
  op.learning_rates = make_rates(b, shapes.size(), 1e-4, 1e-2);
  op.weight_decays = make_rates(b, shapes.size(), 0, 1e-2);
  op.step = step;
  return op;
}

/// With the same gradient in every step, corrected means are that gradient and its square: every step moves a
/// parameter by its learning rate, against the gradient's sign.
inline std::string adam_with_one_gradient(Device& device) {
  Builder b(DType::float32, 1);
  Adam op;
  op.parameters = {{b.values({3}, {1, 2, 3})}, {b.values({2}, {4, 5})}};
  op.first_moments = {{b.zeros({3}, DType::float32)}, {b.zeros({2}, DType::float32)}};
  op.second_moments = {{b.zeros({3}, DType::float32)}, {b.zeros({2}, DType::float32)}};
  op.gradients = {{b.values({3}, {0.5, -3, 0})}, {b.values({2}, {-1e-3, 20})}};
  op.learning_rates = {0.1f, 0.01f};
  op.weight_decays = {0, 0};
  const double begins[] = {1, 2, 3, 4, 5}, moves[] = {-0.1, 0.1, 0, 0.01, -0.01};
  for (int step = 1; step <= 5; ++step) {
    op.step = step;
    const auto results = run_device(op, b, device);
    take_results(op.parameters, "parameters", results);
    take_results(op.first_moments, "firstMoments", results);
    take_results(op.second_moments, "secondMoments", results);
    for (int64_t i = 0; i < 5; ++i) {
      const double got = i < 3 ? op.parameters[0].as<float>()[i] : op.parameters[1].as<float>()[i - 3];
      const double expected = begins[i] + step * moves[i];
      if (std::abs(got - expected) > 2e-6) {
        std::ostringstream wrong;
        wrong << "after step " << step << " number " << i << " is " << got << ", expected " << expected;
        return wrong.str();
      }
    }
  }
  return {};
}

inline void adam_cases(Suite& suite) {
  const Limits limits{.bfloat16 = false};
  for (const int step : {1, 2, 1000, 1000000}) {
    suite.add<Adam>(
        "step " + std::to_string(step), [=](Builder& b) { return make_adam(b, odd_shapes(), step); }, limits);
  }
  suite.add<Adam>(
      "other settings",
      [](Builder& b) {
        Adam op = make_adam(b, odd_shapes(), 3);
        op.beta1 = 0.5f;
        op.beta2 = 0.75f;
        op.epsilon = 0.1f;
        op.gradient_scale = 0.3f;
        return op;
      },
      limits);
  suite.add<Adam>(
      "without running means",
      [](Builder& b) {
        Adam op = make_adam(b, {{31}}, 3);
        op.beta1 = op.beta2 = 0;
        return op;
      },
      limits);
  suite.add<Adam>(
      "the first step, from zeros",
      [](Builder& b) {
        Adam op = make_adam(b, {{33}, {7, 5}}, 1);
        op.first_moments = make_list<InOut>(b, {{33}, {7, 5}}, 0, 0);
        op.second_moments = make_list<InOut>(b, {{33}, {7, 5}}, 0, 0);
        return op;
      },
      limits);
  suite.add<Adam>(
      "gradients of zero, from zeros",
      [](Builder& b) {
        Adam op = make_adam(b, {{31}}, 1);
        op.first_moments = make_list<InOut>(b, {{31}}, 0, 0);
        op.second_moments = make_list<InOut>(b, {{31}}, 0, 0);
        op.gradients = make_list<In>(b, {{31}}, 0, 0);
        op.weight_decays = {0};
        return op;
      },
      limits);
  suite.add<Adam>(
      "a NaN stays with its number",
      [](Builder& b) {
        Adam op = make_adam(b, {{31}, {5000}}, 2);
        op.gradients[1].as<float>()[4321] = NAN;
        return op;
      },
      limits);
  suite.add<Adam>(
      "an empty parameter among others",
      [](Builder& b) { return make_adam(b, {{0}, {5}, {0}, {4099}, {0}}, 2); }, limits);
  suite.direct("adam", "one gradient for five steps", adam_with_one_gradient);

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, Adam&)> spoil) {
    suite.refuses<Adam>(name, [](Builder& b) { return make_adam(b, {{3}, {2, 5}}, 1); }, spoil, expected);
  };
  refuses("no parameter", "there is no parameter", [](Builder&, auto& op) { op.parameters.clear(); });
  refuses("a parameter in bfloat16", "parameter must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.parameters[1] = {b.zeros({2, 5}, DType::bfloat16)}; });
  refuses("too few moments", "1 secondMoments for 2 parameters",
          [](Builder&, auto& op) { op.second_moments.pop_back(); });
  refuses("a gradient of another shape",
          "gradients[1] must have shape [2, 5], as its parameter, and has [5, 2]",
          [](Builder& b, auto& op) { op.gradients[1] = {b.floats({5, 2})}; });
  refuses("a moment in bfloat16", "firstMoments must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.first_moments[0] = {b.zeros({3}, DType::bfloat16)}; });
  refuses("too many rates", "3 learningRates for 2 parameters",
          [](Builder&, auto& op) { op.learning_rates.push_back(1); });
  refuses("a negative rate", "learningRates[1] is -1; expected 0 or more",
          [](Builder&, auto& op) { op.learning_rates[1] = -1; });
  refuses("no decays", "0 weightDecays for 2 parameters", [](Builder&, auto& op) { op.weight_decays = {}; });
  refuses("a decay NaN", "weightDecays[0] is", [](Builder&, auto& op) { op.weight_decays[0] = NAN; });
  refuses("beta1 of 1", "beta1 1 must be from 0 to before 1", [](Builder&, auto& op) { op.beta1 = 1; });
  refuses("a negative beta2", "beta2 -0.5 must be from 0", [](Builder&, auto& op) { op.beta2 = -0.5f; });
  refuses("epsilon of 0", "epsilon 0 must be above 0", [](Builder&, auto& op) { op.epsilon = 0; });
  refuses("an infinite scale", "gradientScale inf must be finite",
          [](Builder&, auto& op) { op.gradient_scale = INFINITY; });
  refuses("step 0", "step 0 must be 1 or more", [](Builder&, auto& op) { op.step = 0; });
  suite.bench<Adam>("ResNet-50", [](Builder& b) { return make_adam(b, resnet50_shapes(), 100); });
}

}  // namespace glnet::test
