#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

inline ReluBackward make_relu_backward(const View& dy, const View& y) {
  ReluBackward op;
  op.dy = {dy};
  op.y = {y};
  return op;
}

inline void relu_backward_cases(Suite& suite) {
  const Limits exact{.bfloat16 = false, .exact = true};
  for (const Shape& shape : {Shape{1}, Shape{31}, Shape{2, 33, 31, 7}}) {
    suite.add<ReluBackward>(
        "random " + std::to_string(element_count(shape)),
        [=](Builder& b) { return make_relu_backward(b.tensor(shape), b.tensor(shape)); }, exact);
  }
  suite.add<ReluBackward>(
      "zeros, NaN and infinities",
      [](Builder& b) {
        // Each dy at each y.
        const std::vector<double> values = {NAN, INFINITY, -INFINITY, 0.0, -0.0, 1e-45, -1e-45};
        std::vector<double> dy, y;
        for (const double u : values) {
          for (const double v : values) dy.push_back(u), y.push_back(v);
        }
        return make_relu_backward(b.values({7, 7}, dy), b.values({7, 7}, y));
      },
      exact);
  suite.gradient<Relu>(
      "relu",
      [](Builder& b) {
        Relu op;
        op.x = {b.tensor({2, 3, 5, 7})};
        return op;
      },
      "y", "x",
      [](Builder& b, const Relu& op, const View& dy) {
        return evaluated(make_relu_backward(dy, op.y), b).dx;
      });
  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, ReluBackward&)> spoil) {
    suite.refuses<ReluBackward>(
        name, [](Builder& b) { return make_relu_backward(b.tensor({2, 3}), b.tensor({2, 3})); }, spoil,
        expected);
  };
  refuses("dy of another dtype", "dy must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.dy = {b.zeros({2, 3}, DType::bfloat16)}; });
  refuses("y of another shape", "y must have shape [2, 3], and has [3, 2]",
          [](Builder& b, auto& op) { op.y = {b.tensor({3, 2})}; });
  refuses("y of another dtype", "y must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.y = {b.zeros({2, 3}, DType::bfloat16)}; });
  suite.bench<ReluBackward>("6x127x127x256", [](Builder& b) {
    return make_relu_backward(b.tensor({6, 127, 127, 256}), b.tensor({6, 127, 127, 256}));
  });
}

}  // namespace glnet::test
