#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

inline MaxPool make_max_pool(const View& x, int kernel, int stride, int padding) {
  MaxPool op;
  op.x = {x};
  op.kernel = kernel;
  op.stride = stride;
  op.padding = padding;
  return op;
}

inline void max_pool_cases(Suite& suite) {
  const Limits exact{.exact = true};
  for (const Shape& shape :
       {Shape{1, 1, 1, 1}, Shape{2, 31, 33, 7}, Shape{1, 33, 2, 64}, Shape{1, 17, 19, 131},
        Shape{2, 9, 13, 12}, Shape{1, 5, 7, 264}, Shape{1, 3, 4, 2056}}) {
    for (const auto& [kernel, stride, padding] :
         {std::tuple{3, 2, 1}, {2, 2, 1}, {1, 1, 0}, {3, 1, 1}, {2, 1, 1}, {5, 3, 2}, {1, 4, 0}}) {
      std::ostringstream name;
      name << shape << " kernel " << kernel << " stride " << stride << " padding " << padding;
      suite.add<MaxPool>(
          name.str(), [=](Builder& b) { return make_max_pool(b.tensor(shape), kernel, stride, padding); },
          exact);
    }
  }
  suite.add<MaxPool>(
      "NaN and infinities",
      [](Builder& b) {
        std::vector<double> values(7 * 7 * 2, -INFINITY);
        values[2 * (7 * 3 + 3)] = NAN;
        values[2 * (7 * 2 + 3)] = INFINITY;
        values[2 * (7 * 6 + 6) + 1] = -1e30;
        return make_max_pool(b.values({1, 7, 7, 2}, values), 3, 2, 1);
      },
      exact);

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, MaxPool&)> spoil) {
    suite.refuses<MaxPool>(
        name, [](Builder& b) { return make_max_pool(b.tensor({1, 5, 5, 2}), 3, 2, 1); }, spoil, expected);
  };
  refuses("x of another rank", "x must have 4 dimensions",
          [](Builder& b, auto& op) { op.x = {b.tensor({5, 5})}; });
  refuses("kernel 0", "kernel 0 and stride 2 must be at least 1", [](Builder&, auto& op) { op.kernel = 0; });
  refuses("stride 0", "kernel 3 and stride 0 must be at least 1", [](Builder&, auto& op) { op.stride = 0; });
  refuses("negative padding", "padding -1 must be from 0", [](Builder&, auto& op) { op.padding = -1; });
  refuses("padding of a whole kernel", "padding 2 must be from 0 to half the kernel, 3",
          [](Builder&, auto& op) { op.padding = 2; });
  refuses("x smaller than the kernel", "is smaller than the kernel, 9",
          [](Builder&, auto& op) { op.kernel = 9; });
  suite.bench<MaxPool>("254x254x64",
                       [](Builder& b) { return make_max_pool(b.tensor({1, 254, 254, 64}), 3, 2, 1); });
}

}  // namespace glnet::test
