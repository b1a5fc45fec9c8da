#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

inline MaxPoolBackward make_max_pool_backward(Builder& b, const View& x, int kernel, int stride,
                                              int padding) {
  MaxPoolBackward op;
  op.x = {x};
  op.dy = {b.tensor(pooled_shape(op.kName, x, kernel, stride, padding))};
  op.kernel = kernel;
  op.stride = stride;
  op.padding = padding;
  return op;
}

inline void max_pool_backward_cases(Suite& suite) {
  const Limits float32{.bfloat16 = false};
  const std::tuple<int, int, int> windows[] = {{3, 2, 1}, {2, 2, 1}, {1, 1, 0}, {3, 1, 1},
                                               {2, 1, 1}, {5, 3, 2}, {1, 4, 0}};
  for (const auto& [kernel, stride, padding] : windows) {
    std::ostringstream name;
    name << "kernel " << kernel << " stride " << stride << " padding " << padding;
    for (const Shape& shape :
         {Shape{1, 1, 1, 1}, Shape{2, 31, 33, 7}, Shape{1, 33, 2, 64}, Shape{2, 17, 19, 131}}) {
      std::ostringstream of;
      of << shape << ", " << name.str();
      suite.add<MaxPoolBackward>(
          of.str(),
          [=, kernel = kernel, stride = stride, padding = padding](Builder& b) {
            return make_max_pool_backward(b, b.tensor(shape), kernel, stride, padding);
          },
          float32);
    }
    suite.add<MaxPoolBackward>(
        "ties, " + name.str(),
        [=, kernel = kernel, stride = stride, padding = padding](Builder& b) {
          const View x = b.zeros({2, 13, 11, 5}, b.dtype());
          for (int64_t i = 0; i < x.size(); ++i) x.as<float>()[i] = static_cast<float>(b.integer(0, 2));
          return make_max_pool_backward(b, x, kernel, stride, padding);
        },
        float32);
    suite.gradient<MaxPool>(
        name.str(),
        [=, kernel = kernel, stride = stride, padding = padding](Builder& b) {
          MaxPool op;
          op.x = {b.tensor({2, 7, 5, 3})};
          op.kernel = kernel;
          op.stride = stride;
          op.padding = padding;
          return op;
        },
        "y", "x",
        [](Builder& b, const MaxPool& op, const View& dy) {
          MaxPoolBackward backward;
          backward.dy = {dy};
          backward.x = op.x;
          backward.kernel = op.kernel;
          backward.stride = op.stride;
          backward.padding = op.padding;
          return evaluated(backward, b).dx;
        });
  }
  for (const double background : {0.0, -double{INFINITY}}) {
    suite.add<MaxPoolBackward>(
        "NaN and infinities on " + std::to_string(background),
        [=](Builder& b) {
          std::vector<double> values(9 * 9 * 2, background);
          // Two NaNs in one window, and one beside an infinity.
          values[2 * (9 * 3 + 3)] = values[2 * (9 * 3 + 4)] = values[2 * (9 * 4 + 2)] = NAN;
          values[2 * (9 * 2 + 3)] = values[2 * (9 * 7 + 7)] = INFINITY;
          values[2 * (9 * 6 + 6) + 1] = -1e30;
          return make_max_pool_backward(b, b.values({1, 9, 9, 2}, values), 3, 2, 1);
        },
        float32);
  }
  suite.direct("max_pool_backward", "known values", [](Device& device) {
    Builder b(DType::float32, 1);
    MaxPoolBackward op;
    // Ties go to the first; a NaN beats an infinity, and here wins two windows.
    op.x = {b.values({1, 2, 5, 1}, {5, 1, 7, 1, INFINITY, 5, 1, 7, NAN, NAN})};
    op.dy = {b.values({1, 1, 4, 1}, {1, 10, 100, 1000})};
    op.kernel = 2;
    op.stride = 1;
    op.padding = 0;
    const double expected[] = {1, 0, 10, 0, 0, 0, 0, 0, 1100, 0};
    const View dx = run_device(op, b, device)[0].view;
    for (int64_t i = 0; i < dx.size(); ++i) {
      if (reference::load(dx, i) != expected[i])
        return "element " + std::to_string(i) + " is not as expected";
    }
    return std::string();
  });

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, MaxPoolBackward&)> spoil) {
    suite.refuses<MaxPoolBackward>(
        name, [](Builder& b) { return make_max_pool_backward(b, b.tensor({1, 5, 7, 2}), 3, 2, 1); }, spoil,
        expected);
  };
  refuses("x of another rank", "max_pool_backward: x must have 4 dimensions",
          [](Builder& b, auto& op) { op.x = {b.tensor({5, 5})}; });
  refuses("x of another dtype", "x must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.x = {b.zeros({1, 5, 7, 2}, DType::bfloat16)}; });
  refuses("kernel 0", "kernel 0 and stride 2 must be at least 1", [](Builder&, auto& op) { op.kernel = 0; });
  refuses("padding of a whole kernel", "padding 2 must be from 0 to half the kernel, 3",
          [](Builder&, auto& op) { op.padding = 2; });
  refuses("dy of another shape", "dy must have shape [1, 3, 4, 2], and has [1, 3, 3, 2]",
          [](Builder& b, auto& op) { op.dy = {b.tensor({1, 3, 3, 2})}; });
  refuses("dy of another dtype", "dy must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.dy = {b.zeros({1, 3, 4, 2}, DType::bfloat16)}; });
  suite.bench<MaxPoolBackward>("6x254x254x64", [](Builder& b) {
    return make_max_pool_backward(b, b.tensor({6, 254, 254, 64}), 3, 2, 1);
  });
}

}  // namespace glnet::test
