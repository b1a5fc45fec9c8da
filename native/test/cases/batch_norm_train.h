#pragma once

#include <cmath>
#include <cstring>

#include "test/harness.h"

namespace glnet::test {

inline BatchNormTrain make_batch_norm_train(Builder& b, const View& x, bool residual, bool relu) {
  BatchNormTrain op;
  op.x = {x};
  const Shape channels{x.dim(3)};
  op.weight = {b.floats(channels)};
  op.bias = {b.floats(channels)};
  op.running_mean = {b.floats(channels)};
  op.running_var = {b.floats(channels, 0.01, 2)};
  if (residual) op.residual = {b.tensor(x.shape)};
  op.relu = relu;
  return op;
}

/// Runs a random op with other numbers of threads: what is wrong if the bits are not the same.
template <class Op>
std::string same_with_any_threads(Device& device, const std::function<Op(Builder&)>& make) {
  Builder b(DType::float32, 1);
  const Op op = make(b);
  const auto first = run_device(op, b, device);
  for (const int threads : {1, 3, 7}) {
    Device other(device.backend(), {.threads = threads});
    const auto again = run_device(op, b, other);
    for (size_t i = 0; i < first.size(); ++i) {
      if (std::memcmp(first[i].view.data, again[i].view.data, first[i].view.bytes())) {
        return first[i].name + " differs with " + std::to_string(threads) + " threads";
      }
    }
  }
  return {};
}

inline void batch_norm_train_cases(Suite& suite) {
  const Limits float32{.bfloat16 = false};
  for (const Shape& shape : {Shape{1, 1, 2, 1}, Shape{2, 31, 33, 7}, Shape{1, 5, 3, 64}, Shape{3, 2, 7, 131},
                             Shape{1, 67, 71, 31}, Shape{2, 16, 17, 515}}) {
    for (const bool residual : {false, true}) {
      for (const bool relu : {false, true}) {
        std::ostringstream name;
        name << shape << (residual ? " with residual" : "") << (relu ? " with relu" : "");
        suite.add<BatchNormTrain>(
            name.str(),
            [=](Builder& b) { return make_batch_norm_train(b, b.tensor(shape, -3, 5), residual, relu); },
            float32);
      }
    }
  }
  suite.add<BatchNormTrain>(
      "another epsilon and momentum",
      [](Builder& b) {
        BatchNormTrain op = make_batch_norm_train(b, b.tensor({2, 5, 7, 33}), false, false);
        op.epsilon = 0.25f;
        op.momentum = 1;
        return op;
      },
      float32);
  suite.add<BatchNormTrain>(
      "a mean of thousands of deviations, and a first pixel that lies far off",
      [](Builder& b) {
        const View x = b.tensor({2, 61, 67, 5});
        for (int64_t i = 0; i < x.size(); ++i) x.as<float>()[i] += i % 5 < 3 ? 5000.0f : 0.0f;
        for (int64_t c = 2; c < 4; ++c) x.as<float>()[c] = 100;
        return make_batch_norm_train(b, x, false, false);
      },
      float32);
  suite.add<BatchNormTrain>(
      "constant channels",
      [](Builder& b) {
        const View x = b.zeros({2, 13, 17, 3}, DType::float32);
        for (int64_t i = 0; i < x.size(); ++i) x.as<float>()[i] = static_cast<float>(i % 3);
        return make_batch_norm_train(b, x, false, false);
      },
      float32);
  for (const bool relu : {false, true}) {
    suite.add<BatchNormTrain>(
        relu ? "NaN and infinities with relu" : "NaN and infinities",
        [=](Builder& b) {
          const View x = b.tensor({1, 31, 33, 4});
          x.as<float>()[4 * 500] = NAN;
          x.as<float>()[4 * 700 + 1] = INFINITY;
          x.as<float>()[2] = -INFINITY;
          return make_batch_norm_train(b, x, false, relu);
        },
        float32);
  }
  suite.direct("batch_norm_train", "momentum 0 leaves the running statistics bit for bit",
               [](Device& device) {
                 Builder b(DType::float32, 1);
                 BatchNormTrain op = make_batch_norm_train(b, b.tensor({1, 3, 5, 3}), false, false);
                 op.x.as<float>()[2] = NAN;
                 op.running_mean.as<float>()[0] = -0.0f;
                 op.running_var.as<float>()[1] = NAN;
                 op.momentum = 0;
                 for (const Output& output : run_device(op, b, device)) {
                   if (output.name != "runningMean" && output.name != "runningVar") continue;
                   const View& before = output.name == "runningMean" ? op.running_mean : op.running_var;
                   if (std::memcmp(output.view.data, before.data, before.bytes()))
                     return output.name + " has changed";
                 }
                 return std::string();
               });
  suite.direct("batch_norm_train", "known values", [](Device& device) {
    Builder b(DType::float32, 1);
    BatchNormTrain op;
    op.x = {b.values({2, 1, 2, 1}, {1, 2, 3, 6})};
    op.weight = {b.values({1}, {2})};
    op.bias = {b.values({1}, {-0.5})};
    op.running_mean = {b.values({1}, {1})};
    op.running_var = {b.values({1}, {1})};
    op.residual = {b.values({2, 1, 2, 1}, {0, 1, 0, 0})};
    op.epsilon = 0.5f;
    op.momentum = 0.5f;
    op.relu = true;
    // Mean 3; variance 14 / 4 = 3.5, with epsilon 4; unbiased 14 / 3.
    const double expected[] = {2, (1 + 14.0 / 3) / 2, 0, 0, 0, 2.5, 3, 0.5};
    size_t next = 0;
    for (const Output& output : run_device(op, b, device)) {
      for (int64_t i = 0; i < output.view.size(); ++i) {
        if (std::abs(reference::load(output.view, i) - expected[next++]) > 1e-6) {
          return output.name + " is not as expected";
        }
      }
    }
    return std::string();
  });
  suite.direct("batch_norm_train", "the same bits with any number of threads", [](Device& device) {
    return same_with_any_threads<BatchNormTrain>(
        device, [](Builder& b) { return make_batch_norm_train(b, b.tensor({2, 61, 67, 33}), true, true); });
  });

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, BatchNormTrain&)> spoil) {
    suite.refuses<BatchNormTrain>(
        name, [](Builder& b) { return make_batch_norm_train(b, b.tensor({1, 2, 2, 3}), true, false); }, spoil,
        expected);
  };
  refuses("x of another rank", "x must have 4 dimensions",
          [](Builder& b, auto& op) { op.x = {b.tensor({2, 3})}; });
  refuses("x of another dtype", "x must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.x = {b.zeros({1, 2, 2, 3}, DType::bfloat16)}; });
  refuses("one pixel", "x [1, 1, 1, 3] has one value a channel, which has no variance",
          [](Builder& b, auto& op) { op.x = {b.tensor({1, 1, 1, 3})}; });
  refuses("weight of another length", "weight must have shape [3], and has [4]",
          [](Builder& b, auto& op) { op.weight = {b.floats({4})}; });
  refuses("bias of another length", "bias must have shape",
          [](Builder& b, auto& op) { op.bias = {b.floats({4})}; });
  refuses("running mean of another length", "runningMean must have shape",
          [](Builder& b, auto& op) { op.running_mean = {b.floats({4})}; });
  refuses("running variance of another dtype", "runningVar must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.running_var = {b.zeros({3}, DType::bfloat16)}; });
  refuses("residual of another shape", "residual must have shape [1, 2, 2, 3]",
          [](Builder& b, auto& op) { op.residual = {b.tensor({1, 2, 3, 2})}; });
  refuses("residual of another dtype", "residual must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.residual = {b.zeros({1, 2, 2, 3}, DType::bfloat16)}; });
  refuses("epsilon 0", "epsilon 0 must be above 0", [](Builder&, auto& op) { op.epsilon = 0; });
  refuses("epsilon NaN", "must be above 0, and finite", [](Builder&, auto& op) { op.epsilon = NAN; });
  refuses("momentum above 1", "momentum 1.5 must be from 0 to 1",
          [](Builder&, auto& op) { op.momentum = 1.5f; });
  refuses("momentum NaN", "must be from 0 to 1", [](Builder&, auto& op) { op.momentum = NAN; });

  for (const Shape& shape : {Shape{6, 127, 127, 256}, Shape{6, 254, 254, 64}, Shape{6, 16, 16, 2048}}) {
    std::ostringstream name;
    name << shape << ", relu";
    suite.bench<BatchNormTrain>(
        name.str(), [=](Builder& b) { return make_batch_norm_train(b, b.tensor(shape), false, true); });
  }
  suite.bench<BatchNormTrain>("[6, 127, 127, 256], residual, relu", [](Builder& b) {
    return make_batch_norm_train(b, b.tensor({6, 127, 127, 256}), true, true);
  });
}

}  // namespace glnet::test
