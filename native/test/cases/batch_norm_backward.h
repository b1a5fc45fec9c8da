#pragma once

#include <cmath>

#include "test/cases/batch_norm_train.h"

namespace glnet::test {

inline BatchNormBackward make_batch_norm_backward(Builder& b, const View& x, bool relu) {
  BatchNormBackward op;
  op.dy = {b.tensor(x.shape)};
  op.x = {x};
  const Shape channels{x.dim(3)};
  op.weight = {b.floats(channels)};
  op.mean = {b.floats(channels)};
  op.inverse_deviation = {b.floats(channels, 0.5, 2)};
  if (relu) op.y = {b.tensor(x.shape)};
  op.dweight = {b.floats(channels)};
  op.dbias = {b.floats(channels)};
  return op;
}

/// The backward op of a forward op that was run in double, with gradients of parameters that start at zero.
inline BatchNormBackward backward_of(Builder& b, const BatchNormTrain& forward, const View& dy) {
  BatchNormBackward op;
  op.dy = {dy};
  op.x = forward.x;
  op.weight = forward.weight;
  op.mean = {forward.mean};
  op.inverse_deviation = {forward.inverse_deviation};
  if (forward.relu) op.y = {forward.y};
  op.dweight = {b.zeros(forward.weight.shape, DType::float64)};
  op.dbias = {b.zeros(forward.weight.shape, DType::float64)};
  return evaluated(op, b);
}

inline void batch_norm_backward_cases(Suite& suite) {
  const Limits float32{.bfloat16 = false};
  for (const Shape& shape : {Shape{1, 1, 2, 1}, Shape{2, 31, 33, 7}, Shape{1, 5, 3, 64}, Shape{3, 2, 7, 131},
                             Shape{1, 67, 71, 31}, Shape{2, 16, 17, 515}}) {
    for (const bool relu : {false, true}) {
      std::ostringstream name;
      name << shape << (relu ? " with relu" : "");
      suite.add<BatchNormBackward>(
          name.str(), [=](Builder& b) { return make_batch_norm_backward(b, b.tensor(shape, -3, 5), relu); },
          float32);
    }
  }
  suite.add<BatchNormBackward>(
      "a mean of thousands of deviations",
      [](Builder& b) {
        const View x = b.tensor({2, 31, 37, 3});
        for (int64_t i = 0; i < x.size(); ++i) x.as<float>()[i] += 5000;
        BatchNormBackward op = make_batch_norm_backward(b, x, false);
        for (int64_t c = 0; c < 3; ++c) op.mean.as<float>()[c] += 5000;
        return op;
      },
      float32);
  suite.add<BatchNormBackward>(
      "NaN and infinities",
      [](Builder& b) {
        // In x, in dy, and in dy or y where relu stops them, or does not.
        BatchNormBackward op = make_batch_norm_backward(b, b.tensor({1, 31, 33, 6}), true);
        for (const int64_t c : {0, 1, 2, 3, 4}) {
          (c == 0 ? op.x : op.dy).as<float>()[6 * 500 + c] = c % 2 ? INFINITY : NAN;
          op.y.as<float>()[6 * 500 + c] = c < 3 ? 1.0f : -1.0f;
        }
        op.y.as<float>()[6 * 700 + 5] = NAN;
        return op;
      },
      float32);
  suite.direct("batch_norm_backward", "the same bits with any number of threads", [](Device& device) {
    return same_with_any_threads<BatchNormBackward>(
        device, [](Builder& b) { return make_batch_norm_backward(b, b.tensor({2, 61, 67, 33}), true); });
  });
  for (const bool residual : {false, true}) {
    for (const bool relu : {false, true}) {
      const std::string with = std::string(residual ? ", residual" : "") + (relu ? ", relu" : "");
      const auto make = [=](Builder& b) {
        return make_batch_norm_train(b, b.tensor({2, 3, 5, 3}), residual, relu);
      };
      const auto gradient = [&](const std::string& input, auto member) {
        suite.gradient<BatchNormTrain>(input + with, make, "y", input,
                                       [=](Builder& b, const BatchNormTrain& op, const View& dy) -> View {
                                         return backward_of(b, op, dy).*member;
                                       });
      };
      gradient("x", &BatchNormBackward::dx);
      gradient("weight", &BatchNormBackward::dweight);
      gradient("bias", &BatchNormBackward::dbias);
    }
  }

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, BatchNormBackward&)> spoil) {
    suite.refuses<BatchNormBackward>(
        name, [](Builder& b) { return make_batch_norm_backward(b, b.tensor({1, 2, 2, 3}), true); }, spoil,
        expected);
  };
  refuses("dy of another rank", "dy must have 4 dimensions",
          [](Builder& b, auto& op) { op.dy = {b.tensor({2, 3})}; });
  refuses("dy of another dtype", "dy must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.dy = {b.zeros({1, 2, 2, 3}, DType::bfloat16)}; });
  refuses("x of another shape", "x must have shape [1, 2, 2, 3], and has [1, 2, 3, 2]",
          [](Builder& b, auto& op) { op.x = {b.tensor({1, 2, 3, 2})}; });
  refuses("y of another shape", "y must have shape [1, 2, 2, 3], and has [1, 2, 3, 2]",
          [](Builder& b, auto& op) { op.y = {b.tensor({1, 2, 3, 2})}; });
  refuses("y of another dtype", "y must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.y = {b.zeros({1, 2, 2, 3}, DType::bfloat16)}; });
  refuses("weight of another length", "weight must have shape [3], and has [4]",
          [](Builder& b, auto& op) { op.weight = {b.floats({4})}; });
  refuses("mean of another length", "mean must have shape [3]",
          [](Builder& b, auto& op) { op.mean = {b.floats({4})}; });
  refuses("deviation of another length", "inverseDeviation must have shape [3]",
          [](Builder& b, auto& op) { op.inverse_deviation = {b.floats({4})}; });
  refuses("dweight of another length", "dweight must have shape [3]",
          [](Builder& b, auto& op) { op.dweight = {b.floats({4})}; });
  refuses("dbias of another dtype", "dbias must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.dbias = {b.zeros({3}, DType::bfloat16)}; });

  for (const Shape& shape : {Shape{6, 127, 127, 256}, Shape{6, 254, 254, 64}, Shape{6, 16, 16, 2048}}) {
    for (const bool relu : {false, true}) {
      std::ostringstream name;
      name << shape << (relu ? ", relu" : "");
      suite.bench<BatchNormBackward>(
          name.str(), [=](Builder& b) { return make_batch_norm_backward(b, b.tensor(shape), relu); });
    }
  }
}

}  // namespace glnet::test
