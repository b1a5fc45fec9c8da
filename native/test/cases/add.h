#pragma once

#include "test/harness.h"

namespace glnet::test {

inline void add_cases(Suite& suite) {
  for (const Shape& shape : {Shape{1}, Shape{31}, Shape{2, 33, 31, 7}}) {
    suite.add<Add>("random " + std::to_string(element_count(shape)), [=](Builder& b) {
      Add op;
      op.a = {b.tensor(shape)};
      op.b = {b.tensor(shape)};
      return op;
    });
  }
  suite.refuses<Add>(
      "shapes that differ",
      [](Builder& b) {
        Add op;
        op.a = {b.tensor({2, 3})};
        op.b = {b.tensor({3, 2})};
        return op;
      },
      "b must have shape [2, 3], and has [3, 2]");
  // More than any cache holds: what memory reaches at best.
  suite.bench<Add>("peak: 32 Mi values", [](Builder& b) {
    Add op;
    op.a = {b.zeros({32 << 20}, b.dtype())};
    op.b = {b.zeros({32 << 20}, b.dtype())};
    return op;
  });
}

}  // namespace glnet::test
