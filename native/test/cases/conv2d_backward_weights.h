#pragma once

#include "test/cases/conv2d.h"

namespace glnet::test {

inline Conv2dBackwardWeights random_conv2d_backward_weights(Builder& b, const Conv2dSizes& s) {
  Conv2dBackwardWeights op;
  op.x = {b.tensor({s.batch, s.height, s.width, s.channels})};
  op.dweight = {b.tensor({s.outputs, s.channels, s.kernel, s.kernel})};
  op.stride = s.stride;
  op.padding = s.padding;
  op.dy = {b.tensor(conv2d_shape(op.kName, op.x.shape, op.dweight.shape, s.stride, s.padding))};
  return op;
}

inline void conv2d_backward_weights_cases(Suite& suite) {
  const Limits limits{.bfloat16 = false};
  for (const Conv2dSizes& s : backward_sizes()) {
    suite.add<Conv2dBackwardWeights>(
        name_of(s), [=](Builder& b) { return random_conv2d_backward_weights(b, s); }, limits);
  }
  // On the emulator, whose parts are as on a GPU but fewer: more pixels than they take in one go.
  suite.add<Conv2dBackwardWeights>(
      "parts in rounds",
      [](Builder& b) { return random_conv2d_backward_weights(b, {1, 71, 67, 32, 7, 3, 1, 1}); }, limits);
  suite.add<Conv2dBackwardWeights>(
      "kernel 3 x 5",
      [](Builder& b) {
        Conv2dBackwardWeights op;
        op.x = {b.tensor({1, 17, 19, 5})};
        op.dy = {b.tensor({1, 17, 17, 7})};
        op.dweight = {b.tensor({7, 5, 3, 5})};
        op.padding = 1;
        return op;
      },
      limits);
  for (const Conv2dSizes& s : gradient_sizes()) {
    suite.gradient<Conv2d>(
        "dweight of " + name_of(s), [=](Builder& b) { return random_conv2d(b, s, true, false, false); }, "y",
        "weight",
        [](Builder& memory, const Conv2d& forward, const View& dy) -> View {
          Conv2dBackwardWeights op;
          op.x = forward.x;
          op.dy = {dy};
          op.stride = forward.stride;
          op.padding = forward.padding;
          op.dweight = {memory.zeros(forward.weight.shape, DType::float64)};
          return evaluated(op, memory).dweight;
        });
  }

  const auto refuses = [&](const std::string& name,
                           std::function<void(Builder&, Conv2dBackwardWeights&)> spoil,
                           const std::string& expected) {
    suite.refuses<Conv2dBackwardWeights>(
        name, [](Builder& b) { return random_conv2d_backward_weights(b, {1, 4, 6, 3, 2, 3, 1, 1}); }, spoil,
        expected);
  };
  refuses(
      "dy of another size", [](Builder& b, Conv2dBackwardWeights& op) { op.dy = {b.tensor({1, 5, 6, 2})}; },
      "dy must have shape [1, 4, 6, 2], and has [1, 5, 6, 2]");
  refuses(
      "dy of another batch", [](Builder& b, Conv2dBackwardWeights& op) { op.dy = {b.tensor({2, 4, 6, 2})}; },
      "dy must have shape [1, 4, 6, 2], and has [2, 4, 6, 2]");
  refuses(
      "channels that differ",
      [](Builder& b, Conv2dBackwardWeights& op) { op.dweight = {b.tensor({2, 5, 3, 3})}; },
      "weight [2, 5, 3, 3] takes 5 channels, and x [1, 4, 6, 3] has 3");
  refuses(
      "a kernel larger than x",
      [](Builder& b, Conv2dBackwardWeights& op) { op.dweight = {b.tensor({2, 3, 7, 7})}; },
      "x [1, 4, 6, 3] is smaller than the kernel of weight [2, 3, 7, 7]");
  refuses(
      "a stride of zero", [](Builder&, Conv2dBackwardWeights& op) { op.stride = 0; },
      "stride 0 must be at least 1");
  refuses(
      "a negative padding", [](Builder&, Conv2dBackwardWeights& op) { op.padding = -1; },
      "padding -1 at least 0");
  refuses(
      "bfloat16",
      [](Builder& b, Conv2dBackwardWeights& op) { op.x = {b.zeros({1, 4, 6, 3}, DType::bfloat16)}; },
      "x must be float32, and is bfloat16");
  refuses(
      "dy of another dtype",
      [](Builder& b, Conv2dBackwardWeights& op) { op.dy = {b.zeros({1, 4, 6, 2}, DType::bfloat16)}; },
      "dy must be float32, and is bfloat16");
  refuses(
      "dweight of another dtype",
      [](Builder& b, Conv2dBackwardWeights& op) { op.dweight = {b.zeros({2, 3, 3, 3}, DType::bfloat16)}; },
      "dweight must be float32, and is bfloat16");
  refuses(
      "an empty batch", [](Builder& b, Conv2dBackwardWeights& op) { op.x = {b.tensor({0, 4, 6, 3})}; },
      "x is empty: [0, 4, 6, 3]");

  for (const Conv2dSizes& s : training_layers()) {
    suite.bench<Conv2dBackwardWeights>(name_of(s),
                                       [=](Builder& b) { return random_conv2d_backward_weights(b, s); });
  }
}

}  // namespace glnet::test
