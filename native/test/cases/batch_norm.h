#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

inline BatchNorm make_batch_norm(Builder& b, const View& x, bool residual, bool relu) {
  BatchNorm op;
  op.x = {x};
  const Shape channels{x.dim(3)};
  op.weight = {b.floats(channels)};
  op.bias = {b.floats(channels)};
  op.mean = {b.floats(channels)};
  op.variance = {b.floats(channels, 0.01, 2)};
  if (residual) op.residual = {b.tensor(x.shape)};
  op.relu = relu;
  return op;
}

inline void batch_norm_cases(Suite& suite) {
  for (const Shape& shape :
       {Shape{1, 1, 1, 1}, Shape{2, 31, 33, 7}, Shape{1, 5, 3, 64}, Shape{3, 2, 7, 131}}) {
    for (const bool residual : {false, true}) {
      for (const bool relu : {false, true}) {
        suite.add<BatchNorm>(
            std::to_string(element_count(shape)) + (residual ? " with residual" : "") +
                (relu ? " with relu" : ""),
            [=](Builder& b) { return make_batch_norm(b, b.tensor(shape, -3, 3), residual, relu); });
      }
    }
  }
  for (const bool relu : {false, true}) {
    suite.add<BatchNorm>(relu ? "NaN and infinities with relu" : "NaN and infinities", [=](Builder& b) {
      return make_batch_norm(b, b.values({1, 1, 2, 2}, {NAN, INFINITY, -INFINITY, 1.5}), true, relu);
    });
  }
  suite.add<BatchNorm>("another epsilon, variance 0", [](Builder& b) {
    BatchNorm op = make_batch_norm(b, b.tensor({1, 3, 3, 5}), false, false);
    op.variance = {b.zeros({5}, DType::float32)};
    op.epsilon = 0.25f;
    return op;
  });
  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, BatchNorm&)> spoil) {
    suite.refuses<BatchNorm>(
        name, [](Builder& b) { return make_batch_norm(b, b.tensor({1, 2, 2, 3}), true, false); }, spoil,
        expected);
  };
  refuses("x of another rank", "x must have 4 dimensions",
          [](Builder& b, auto& op) { op.x = {b.tensor({2, 3})}; });
  refuses("weight of another length", "weight must have shape [3], and has [4]",
          [](Builder& b, auto& op) { op.weight = {b.floats({4})}; });
  refuses("bias of another length", "bias must have shape",
          [](Builder& b, auto& op) { op.bias = {b.floats({4})}; });
  refuses("mean of another length", "mean must have shape",
          [](Builder& b, auto& op) { op.mean = {b.floats({4})}; });
  refuses("variance of another length", "variance must have shape",
          [](Builder& b, auto& op) { op.variance = {b.floats({4})}; });
  refuses("variance of another dtype", "variance must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.variance = {b.zeros({3}, DType::bfloat16)}; });
  refuses("residual of another shape", "residual must have shape [1, 2, 2, 3]",
          [](Builder& b, auto& op) { op.residual = {b.tensor({1, 2, 3, 2})}; });
  refuses("residual of another dtype", "residual must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.residual = {b.zeros({1, 2, 2, 3}, DType::bfloat16)}; });
  suite.bench<BatchNorm>("127x127x256, relu", [](Builder& b) {
    return make_batch_norm(b, b.tensor({1, 127, 127, 256}), false, true);
  });
  suite.bench<BatchNorm>("127x127x256, residual, relu", [](Builder& b) {
    return make_batch_norm(b, b.tensor({1, 127, 127, 256}), true, true);
  });
}

}  // namespace glnet::test
