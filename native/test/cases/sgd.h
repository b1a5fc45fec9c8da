#pragma once

#include <cmath>

#include "test/cases/parameters.h"
#include "test/harness.h"

namespace glnet::test {

inline Sgd make_sgd(Builder& b, const std::vector<Shape>& shapes, float momentum, bool nesterov) {
  Sgd op;
  op.parameters = make_list<InOut>(b, shapes);
  op.momenta = make_list<InOut>(b, shapes);
  op.gradients = make_list<In>(b, shapes);
  op.learning_rates = make_rates(b, shapes.size(), 1e-2, 0.5);
  op.weight_decays = make_rates(b, shapes.size(), 0, 0.1);
  op.momentum = momentum;
  op.nesterov = nesterov;
  return op;
}

/// With momentum 1/2 and gradient 1, doubled by the scale, the momentum after each step is 2, 3, 3.5.
inline std::string known_descent(Device& device, bool nesterov) {
  Builder b(DType::float32, 1);
  Sgd op;
  op.parameters = {{b.values({1}, {0})}};
  op.momenta = {{b.zeros({1}, DType::float32)}};
  op.gradients = {{b.values({1}, {1})}};
  op.learning_rates = {0.25f};
  op.weight_decays = {0};
  op.momentum = 0.5f;
  op.nesterov = nesterov;
  op.gradient_scale = 2;
  const double plain[] = {-0.5, -1.25, -2.125}, ahead[] = {-0.75, -1.625, -2.5625};
  for (int step = 0; step < 3; ++step) {
    const auto results = run_device(op, b, device);
    take_results(op.parameters, "parameters", results);
    take_results(op.momenta, "momenta", results);
    const double got = op.parameters[0].as<float>()[0], expected = nesterov ? ahead[step] : plain[step];
    if (got != expected) return "after a step " + std::to_string(got) + ", not " + std::to_string(expected);
  }
  return {};
}

inline void sgd_cases(Suite& suite) {
  const Limits limits{.bfloat16 = false};
  suite.add<Sgd>("plain", [](Builder& b) { return make_sgd(b, odd_shapes(), 0, false); }, limits);
  suite.add<Sgd>("momentum", [](Builder& b) { return make_sgd(b, odd_shapes(), 0.9f, false); }, limits);
  suite.add<Sgd>(
      "Nesterov's, scaled",
      [](Builder& b) {
        Sgd op = make_sgd(b, odd_shapes(), 0.9f, true);
        op.gradient_scale = 0.3f;
        return op;
      },
      limits);
  suite.add<Sgd>(
      "a NaN stays with its number",
      [](Builder& b) {
        Sgd op = make_sgd(b, {{31}, {5000}}, 0.9f, false);
        op.gradients[1].as<float>()[4321] = NAN;
        return op;
      },
      limits);
  suite.add<Sgd>(
      "an empty parameter among others",
      [](Builder& b) { return make_sgd(b, {{0}, {5}, {0}, {4099}, {0}}, 0.9f, false); }, limits);
  for (const bool nesterov : {false, true}) {
    suite.direct("sgd", std::string("known values") + (nesterov ? ", Nesterov's" : ""),
                 [=](Device& device) { return known_descent(device, nesterov); });
  }

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, Sgd&)> spoil) {
    suite.refuses<Sgd>(
        name, [](Builder& b) { return make_sgd(b, {{3}, {2, 5}}, 0.9f, true); }, spoil, expected);
  };
  refuses("no parameter", "there is no parameter", [](Builder&, auto& op) { op.parameters.clear(); });
  refuses("too few momenta", "1 momenta for 2 parameters", [](Builder&, auto& op) { op.momenta.pop_back(); });
  refuses("a gradient of another shape", "gradients[0] must have shape [3], as its parameter, and has [3, 1]",
          [](Builder& b, auto& op) { op.gradients[0] = {b.floats({3, 1})}; });
  refuses("a momentum in bfloat16", "momenta must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.momenta[0] = {b.zeros({3}, DType::bfloat16)}; });
  refuses("no rates", "0 learningRates for 2 parameters", [](Builder&, auto& op) { op.learning_rates = {}; });
  refuses("an infinite decay", "weightDecays[1] is inf",
          [](Builder&, auto& op) { op.weight_decays[1] = INFINITY; });
  refuses("a momentum of 1", "momentum 1 must be from 0 to before 1",
          [](Builder&, auto& op) { op.momentum = 1; });
  refuses("Nesterov's without momentum", "nesterov needs a momentum",
          [](Builder&, auto& op) { op.momentum = 0; });
  refuses("a scale NaN", "must be finite", [](Builder&, auto& op) { op.gradient_scale = NAN; });
  suite.bench<Sgd>("ResNet-50", [](Builder& b) { return make_sgd(b, resnet50_shapes(), 0.9f, false); });
}

}  // namespace glnet::test
