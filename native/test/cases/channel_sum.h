#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

inline ChannelSum make_channel_sum(Builder& b, const View& x) {
  ChannelSum op;
  op.x = {x};
  op.sum = {b.floats({x.dim(3)})};
  return op;
}

inline void channel_sum_cases(Suite& suite) {
  const Limits float32{.bfloat16 = false};
  for (const Shape& shape : {Shape{1, 1, 1, 1}, Shape{1, 1, 1, 33}, Shape{2, 31, 33, 7}, Shape{1, 5, 3, 64},
                             Shape{3, 2, 7, 131}, Shape{1, 67, 71, 31}, Shape{2, 16, 17, 515}}) {
    std::ostringstream name;
    name << shape;
    suite.add<ChannelSum>(
        name.str(), [=](Builder& b) { return make_channel_sum(b, b.tensor(shape)); }, float32);
  }
  suite.add<ChannelSum>(
      "many large values that cancel",
      [](Builder& b) {
        const View x = b.tensor({1, 64, 64, 3});
        for (int64_t i = 0; i < x.size(); ++i) x.as<float>()[i] += i / 3 % 2 ? 1000.0f : -1000.0f;
        return make_channel_sum(b, x);
      },
      Limits{.bfloat16 = false, .float32 = 1e-11});
  suite.add<ChannelSum>(
      "NaN and infinities",
      [](Builder& b) {
        return make_channel_sum(b, b.values({1, 1, 2, 4}, {1, 1, INFINITY, INFINITY, 1, NAN, 1, -INFINITY}));
      },
      float32);
  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, ChannelSum&)> spoil) {
    suite.refuses<ChannelSum>(
        name, [](Builder& b) { return make_channel_sum(b, b.tensor({1, 2, 3, 4})); }, spoil, expected);
  };
  refuses("x of another rank", "x must have 4 dimensions",
          [](Builder& b, auto& op) { op.x = {b.tensor({6, 4})}; });
  refuses("x of another dtype", "x must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.x = {b.zeros({1, 2, 3, 4}, DType::bfloat16)}; });
  refuses("sum of another length", "sum must have shape [4], and has [3]",
          [](Builder& b, auto& op) { op.sum = {b.floats({3})}; });
  refuses("sum of another dtype", "sum must be float32, and is int32",
          [](Builder& b, auto& op) { op.sum = {b.zeros({4}, DType::int32)}; });
  for (const Shape& shape : {Shape{6, 127, 127, 256}, Shape{6, 127, 127, 7}}) {
    std::ostringstream name;
    name << shape;
    suite.bench<ChannelSum>(name.str(), [=](Builder& b) { return make_channel_sum(b, b.tensor(shape)); });
  }
}

}  // namespace glnet::test
