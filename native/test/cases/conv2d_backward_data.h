#pragma once

#include "test/cases/conv2d.h"

namespace glnet::test {

inline Conv2dBackwardData random_conv2d_backward_data(Builder& b, const Conv2dSizes& s, bool addend) {
  Conv2dBackwardData op;
  op.weight = {b.tensor({s.outputs, s.channels, s.kernel, s.kernel})};
  op.height = static_cast<int>(s.height);
  op.width = static_cast<int>(s.width);
  op.stride = s.stride;
  op.padding = s.padding;
  const Shape x{s.batch, s.height, s.width, s.channels};
  op.dy = {b.tensor(conv2d_shape(op.kName, x, op.weight.shape, s.stride, s.padding))};
  if (addend) op.addend = {b.tensor(x)};
  return op;
}

inline void conv2d_backward_data_cases(Suite& suite) {
  const Limits limits{.bfloat16 = false};
  for (const Conv2dSizes& s : backward_sizes()) {
    for (const bool addend : {false, true}) {
      suite.add<Conv2dBackwardData>(
          name_of(s) + (addend ? ", addend" : ""),
          [=](Builder& b) { return random_conv2d_backward_data(b, s, addend); }, limits);
    }
  }
  suite.add<Conv2dBackwardData>(
      "kernel 3 x 5",
      [](Builder& b) {
        Conv2dBackwardData op;
        op.dy = {b.tensor({1, 17, 17, 7})};
        op.weight = {b.tensor({7, 5, 3, 5})};
        op.height = 17;
        op.width = 19;
        op.padding = 1;
        return op;
      },
      limits);
  for (const Conv2dSizes& s : gradient_sizes()) {
    suite.gradient<Conv2d>(
        "dx of " + name_of(s), [=](Builder& b) { return random_conv2d(b, s, true, false, false); }, "y", "x",
        [](Builder& memory, const Conv2d& forward, const View& dy) -> View {
          Conv2dBackwardData op;
          op.dy = {dy};
          op.weight = forward.weight;
          op.height = static_cast<int>(forward.x.dim(1));
          op.width = static_cast<int>(forward.x.dim(2));
          op.stride = forward.stride;
          op.padding = forward.padding;
          return evaluated(op, memory).dx;
        });
  }

  const auto refuses = [&](const std::string& name, std::function<void(Builder&, Conv2dBackwardData&)> spoil,
                           const std::string& expected) {
    suite.refuses<Conv2dBackwardData>(
        name, [](Builder& b) { return random_conv2d_backward_data(b, {1, 4, 6, 3, 2, 3, 1, 1}, true); },
        spoil, expected);
  };
  refuses(
      "dy of another size", [](Builder&, Conv2dBackwardData& op) { op.height = 5; },
      "dy must have shape [1, 5, 6, 2], and has [1, 4, 6, 2]");
  refuses(
      "dy of other channels", [](Builder& b, Conv2dBackwardData& op) { op.dy = {b.tensor({1, 4, 6, 3})}; },
      "dy must have shape [1, 4, 6, 2], and has [1, 4, 6, 3]");
  refuses(
      "an x that is empty", [](Builder&, Conv2dBackwardData& op) { op.width = 0; }, "x of 4 x 0 is empty");
  refuses(
      "an x smaller than the kernel",
      [](Builder&, Conv2dBackwardData& op) {
        op.height = 2;
        op.padding = 0;
      },
      "x [1, 2, 6, 3] is smaller than the kernel of weight [2, 3, 3, 3]");
  refuses(
      "a stride of zero", [](Builder&, Conv2dBackwardData& op) { op.stride = 0; },
      "stride 0 must be at least 1");
  refuses(
      "a negative padding", [](Builder&, Conv2dBackwardData& op) { op.padding = -1; },
      "padding -1 at least 0");
  refuses(
      "bfloat16",
      [](Builder& b, Conv2dBackwardData& op) { op.dy = {b.zeros({1, 4, 6, 2}, DType::bfloat16)}; },
      "dy must be float32, and is bfloat16");
  refuses(
      "a weight of another dtype",
      [](Builder& b, Conv2dBackwardData& op) { op.weight = {b.zeros({2, 3, 3, 3}, DType::bfloat16)}; },
      "weight must be float32, and is bfloat16");
  refuses(
      "an addend of another shape",
      [](Builder& b, Conv2dBackwardData& op) { op.addend = {b.tensor({1, 4, 6, 2})}; },
      "addend must have shape [1, 4, 6, 3], and has [1, 4, 6, 2]");
  refuses(
      "an addend of another dtype",
      [](Builder& b, Conv2dBackwardData& op) { op.addend = {b.zeros({1, 4, 6, 3}, DType::bfloat16)}; },
      "addend must be float32, and is bfloat16");

  for (const Conv2dSizes& s : training_layers()) {
    suite.bench<Conv2dBackwardData>(name_of(s),
                                    [=](Builder& b) { return random_conv2d_backward_data(b, s, false); });
  }
}

}  // namespace glnet::test
