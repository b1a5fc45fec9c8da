#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

inline void relu_cases(Suite& suite) {
  for (const Shape& shape : {Shape{1}, Shape{31}, Shape{2, 33, 31, 7}, Shape{1, 127, 127, 65}}) {
    suite.add<Relu>("random " + std::to_string(element_count(shape)), [=](Builder& b) {
      Relu op;
      op.x = {b.tensor(shape)};
      return op;
    });
  }
  suite.add<Relu>("NaN and infinities", [](Builder& b) {
    Relu op;
    op.x = {b.values({5}, {NAN, INFINITY, -INFINITY, -0.0, 1.5})};
    return op;
  });
  suite.bench<Relu>("127x127x256", [](Builder& b) {
    Relu op;
    op.x = {b.tensor({1, 127, 127, 256})};
    return op;
  });
}

}  // namespace glnet::test
