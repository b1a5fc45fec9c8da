#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

inline Argmax make_argmax(const View& x) {
  Argmax op;
  op.x = {x};
  return op;
}

inline void argmax_cases(Suite& suite) {
  for (const Shape& shape : {Shape{1}, Shape{7}, Shape{2, 31, 33, 1}, Shape{2, 31, 33, 2},
                             Shape{1, 33, 61, 7}, Shape{31, 21}, Shape{61, 256}}) {
    std::ostringstream name;
    name << shape;
    suite.add<Argmax>(name.str(), [=](Builder& b) { return make_argmax(b.tensor(shape)); });
  }
  suite.add<Argmax>("equal values", [](Builder& b) {
    std::vector<double> values(500 * 5);
    for (double& v : values) v = b.integer(0, 2);
    return make_argmax(b.values({500, 5}, values));
  });
  suite.add<Argmax>("NaN and infinities", [](Builder& b) {
    return make_argmax(
        b.values({9, 3}, {NAN,      1,        2,   1,         NAN,       INFINITY,  1,         NAN, NAN,
                          INFINITY, INFINITY, 1,   -INFINITY, -INFINITY, -INFINITY, -INFINITY, -1,  -INFINITY,
                          NAN,      NAN,      NAN, INFINITY,  1,         NAN,       -0.0,      0.0, -1}));
  });
  suite.direct("argmax", "known labels", [](Device& device) {
    Builder b(DType::float32, 1);
    const Argmax op =
        make_argmax(b.values({5, 3}, {1, 3, 2, 5, 5, 4, 1, NAN, NAN, NAN, 9, NAN, 0, 0, INFINITY}));
    const View labels = run_device(op, b, device)[0].view;
    const std::vector<int> got(labels.as<uint8_t>(), labels.as<uint8_t>() + 5), expected{1, 0, 1, 0, 2};
    return got == expected ? "" : "labels are not as expected";
  });
  suite.refuses<Argmax>(
      "257 classes", [](Builder& b) { return make_argmax(b.tensor({2, 257})); },
      "257 classes do not fit in 8 bits");
  suite.refuses<Argmax>(
      "no dimension", [](Builder& b) { return make_argmax(b.tensor({})); }, "x is empty: []");
  suite.refuses<Argmax>(
      "no class", [](Builder& b) { return make_argmax(b.tensor({3, 0})); }, "x is empty: [3, 0]");
  suite.bench<Argmax>("508x508x7", [](Builder& b) { return make_argmax(b.tensor({1, 508, 508, 7})); });
}

}  // namespace glnet::test
