#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

inline Softmax make_softmax(const View& x) {
  Softmax op;
  op.x = {x};
  return op;
}

inline void softmax_cases(Suite& suite) {
  for (const Shape& shape :
       {Shape{1}, Shape{7}, Shape{2, 31, 33, 1}, Shape{2, 31, 33, 2}, Shape{1, 33, 61, 7}, Shape{31, 21},
        Shape{3, 1000}, Shape{5, 1024}, Shape{3, 1025}, Shape{2, 5003}}) {
    std::ostringstream name;
    name << shape;
    suite.add<Softmax>(name.str(), [=](Builder& b) { return make_softmax(b.tensor(shape, -8, 8)); });
  }
  suite.add<Softmax>("large values", [](Builder& b) { return make_softmax(b.tensor({61, 7}, -1e4, 1e4)); });
  suite.add<Softmax>("the range of exp", [](Builder& b) {
    std::vector<double> values;
    for (int i = 0; i < 1000; ++i) values.insert(values.end(), {0.0, -0.1 * i});
    return make_softmax(b.values({1000, 2}, values));
  });
  for (const int64_t classes : {4, 1500}) {
    suite.add<Softmax>("NaN and infinities, " + std::to_string(classes) + " classes", [=](Builder& b) {
      std::vector<double> values;
      const auto row = [&](double first, double second, double others) {
        std::vector<double> r(static_cast<size_t>(classes), others);
        r[0] = first, r[1] = second;
        values.insert(values.end(), r.begin(), r.end());
      };
      row(NAN, 1, 2);
      row(1, -INFINITY, 2);
      row(INFINITY, 1, 2);
      row(INFINITY, INFINITY, 2);
      row(INFINITY, -INFINITY, 2);
      row(-INFINITY, -INFINITY, -INFINITY);
      row(NAN, NAN, NAN);
      row(3e38, -3e38, 0);
      row(1, 2, 3);
      return make_softmax(b.values({9, classes}, values));
    });
  }
  suite.refuses<Softmax>(
      "no dimension", [](Builder& b) { return make_softmax(b.tensor({})); }, "x is empty: []");
  suite.refuses<Softmax>(
      "no class", [](Builder& b) { return make_softmax(b.tensor({3, 0})); }, "x is empty: [3, 0]");
  suite.bench<Softmax>("508x508x7", [](Builder& b) { return make_softmax(b.tensor({1, 508, 508, 7})); });
}

}  // namespace glnet::test
