#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

inline Mse make_mse(Builder& b, const Shape& shape, float scale = 1) {
  Mse op;
  op.a = {b.floats(shape)};
  op.b = {b.floats(shape)};
  op.scale = scale;
  return op;
}

inline void mse_cases(Suite& suite) {
  const Limits limits{.bfloat16 = false};
  for (const Shape& shape : {Shape{1}, Shape{31}, Shape{2, 33, 31, 7}, Shape{3, 61, 67, 13}}) {
    std::ostringstream name;
    name << shape;
    suite.add<Mse>(name.str(), [=](Builder& b) { return make_mse(b, shape); }, limits);
    suite.add<Mse>(name.str() + ", scaled", [=](Builder& b) { return make_mse(b, shape, 0.15f); }, limits);
  }
  suite.add<Mse>(
      "equal maps",
      [](Builder& b) {
        Mse op = make_mse(b, {7, 31});
        op.b = {op.a};
        return op;
      },
      limits);
  suite.add<Mse>(
      "almost equal maps",
      [](Builder& b) {
        Mse op = make_mse(b, {4099});
        for (int64_t i = 0; i < op.a.size(); ++i)
          op.b.as<float>()[i] = op.a.as<float>()[i] * (1 + 1e-6f * static_cast<float>(i % 7));
        return op;
      },
      limits);
  // A float's sum of these would stop growing.
  suite.add<Mse>(
      "a million equal differences",
      [](Builder& b) {
        Mse op = make_mse(b, {1 << 20});
        std::fill_n(op.a.as<float>(), op.a.size(), 0.1f);
        std::fill_n(op.b.as<float>(), op.b.size(), 0.0f);
        return op;
      },
      limits);
  for (const double value : {double{NAN}, double{INFINITY}}) {
    suite.add<Mse>(
        "an element " + std::to_string(value),
        [=](Builder& b) {
          Mse op = make_mse(b, {3, 31});
          op.a.as<float>()[40] = static_cast<float>(value);
          return op;
        },
        limits);
  }
  suite.gradient<Mse>(
      "a", [](Builder& b) { return make_mse(b, {3, 5, 7}, 1.5f); }, "loss", "a",
      [](Builder& b, const Mse& op, const View& dy) {
        const View gradient = widened(op.gradient, b);
        for (int64_t i = 0; i < gradient.size(); ++i) gradient.as<double>()[i] *= dy.as<double>()[0];
        return gradient;
      });
  suite.direct("mse", "known values", [](Device& device) {
    Builder b(DType::float32, 1);
    Mse op;
    op.a = {b.values({4}, {1, 2, 3, 4})};
    op.b = {b.values({4}, {1, 0, 6, 4})};
    op.scale = 2;
    const auto outputs = run_device(op, b, device);
    const double expected[] = {6.5, 0, 2, -3, 0};
    for (int64_t i = 0; i < 5; ++i) {
      const double got = i ? reference::load(outputs[1].view, i - 1) : reference::load(outputs[0].view, 0);
      if (got != expected[i]) return "value " + std::to_string(i) + " is " + std::to_string(got);
    }
    return std::string();
  });

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, Mse&)> spoil) {
    suite.refuses<Mse>(name, [](Builder& b) { return make_mse(b, {2, 3}); }, spoil, expected);
  };
  refuses("shapes that differ", "b must have shape [2, 3], and has [3, 2]",
          [](Builder& b, auto& op) { op.b = {b.floats({3, 2})}; });
  refuses("bfloat16", "a must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.a = {b.zeros({2, 3}, DType::bfloat16)}; });
  refuses("a scale that is not finite", "must be finite", [](Builder&, auto& op) { op.scale = NAN; });
  suite.bench<Mse>("6x127x127x512", [](Builder& b) { return make_mse(b, {6, 127, 127, 512}, 0.15f); });
}

}  // namespace glnet::test
