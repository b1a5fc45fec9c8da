#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

inline Accumulate make_accumulate(Builder& b, const Shape& shape) {
  Accumulate op;
  op.sum = {b.floats(shape)};
  op.x = {b.floats(shape)};
  return op;
}

inline void accumulate_cases(Suite& suite) {
  const Limits exact{.bfloat16 = false, .exact = true};
  for (const Shape& shape : {Shape{1}, Shape{31}, Shape{2, 33, 31, 7}, Shape{10007}}) {
    suite.add<Accumulate>(
        "random " + std::to_string(element_count(shape)),
        [=](Builder& b) { return make_accumulate(b, shape); }, exact);
  }
  suite.add<Accumulate>(
      "NaN and infinities",
      [](Builder& b) {
        Accumulate op;
        op.sum = {b.values({5}, {1, NAN, INFINITY, INFINITY, 2})};
        op.x = {b.values({5}, {NAN, 1, 1, -INFINITY, 3})};
        return op;
      },
      exact);
  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, Accumulate&)> spoil) {
    suite.refuses<Accumulate>(name, [](Builder& b) { return make_accumulate(b, {2, 3}); }, spoil, expected);
  };
  refuses("shapes that differ", "x must have shape [2, 3], and has [3, 2]",
          [](Builder& b, auto& op) { op.x = {b.floats({3, 2})}; });
  refuses("a sum in bfloat16", "sum must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.sum = {b.zeros({2, 3}, DType::bfloat16)}; });
  refuses("x in bfloat16", "x must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.x = {b.zeros({2, 3}, DType::bfloat16)}; });
  suite.bench<Accumulate>("6x127x127x256", [](Builder& b) { return make_accumulate(b, {6, 127, 127, 256}); });
}

}  // namespace glnet::test
