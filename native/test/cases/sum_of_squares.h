#pragma once

#include <cmath>
#include <cstring>

#include "test/cases/parameters.h"
#include "test/harness.h"

namespace glnet::test {

inline void sum_of_squares_cases(Suite& suite) {
  const Limits limits{.bfloat16 = false};
  const auto make = [](Builder& b, const std::vector<Shape>& shapes) {
    SumOfSquares op;
    op.inputs = make_list<In>(b, shapes);
    return op;
  };
  for (const Shape& shape : odd_shapes()) {
    std::ostringstream name;
    name << "one input " << shape;
    suite.add<SumOfSquares>(name.str(), [=](Builder& b) { return make(b, {shape}); }, limits);
  }
  suite.add<SumOfSquares>("many inputs", [=](Builder& b) { return make(b, odd_shapes()); }, limits);
  suite.add<SumOfSquares>(
      "an empty input among others, at the end too",
      [=](Builder& b) { return make(b, {{0}, {3}, {0}, {0, 5}, {5000}, {0}}); }, limits);
  suite.add<SumOfSquares>(
      "nothing but empty inputs", [=](Builder& b) { return make(b, {{0}, {0, 5}}); }, limits);
  // A float's sum of these would stop growing.
  suite.add<SumOfSquares>(
      "a million equal numbers",
      [=](Builder& b) {
        SumOfSquares op = make(b, {{1 << 20}});
        std::fill_n(op.inputs[0].as<float>(), 1 << 20, 0.1f);
        return op;
      },
      limits);
  suite.add<SumOfSquares>(
      "squares that float32 cannot hold, with a sum that it can",
      [=](Builder& b) {
        SumOfSquares op = make(b, {{1000}});
        std::fill_n(op.inputs[0].as<float>(), 1000, 1e-21f);
        return op;
      },
      limits);
  suite.direct("sum_of_squares", "NaN and infinities show in their own sum", [=](Device& device) {
    Builder b(DType::float32, 1);
    SumOfSquares op = make(b, odd_shapes());
    op.inputs[3].as<float>()[5000] = NAN;
    op.inputs[5].as<float>()[4095] = -INFINITY;
    const View sums = run_device(op, b, device)[0].view;
    for (int64_t i = 0; i < sums.size(); ++i) {
      const float sum = sums.as<float>()[i];
      const bool right = i == 3 ? std::isnan(sum) : i == 5 ? std::isinf(sum) : std::isfinite(sum) && sum > 0;
      if (!right) return "sum " + std::to_string(i) + " is " + std::to_string(sum);
    }
    return std::string();
  });
  suite.direct("sum_of_squares", "the same bits with any number of threads", [=](Device& device) {
    Builder b(DType::float32, 1);
    const SumOfSquares op = make(b, {{31}, {300007}, {4097}});
    const View first = run_device(op, b, device)[0].view;
    for (const int threads : {1, 3, 7}) {
      Device other(device.backend(), {.threads = threads});
      const View again = run_device(op, b, other)[0].view;
      if (std::memcmp(first.data, again.data, first.bytes())) {
        return "differs with " + std::to_string(threads) + " threads";
      }
    }
    return std::string();
  });
  suite.refuses<SumOfSquares>("no input", [](Builder&) { return SumOfSquares{}; }, "there is no input");
  suite.refuses<SumOfSquares>(
      "another dtype",
      [=](Builder& b) {
        SumOfSquares op = make(b, {{3}});
        op.inputs.push_back({b.zeros({3}, DType::bfloat16)});
        return op;
      },
      "input must be float32, and is bfloat16");
  suite.bench<SumOfSquares>("ResNet-50", [=](Builder& b) { return make(b, resnet50_shapes()); });
}

}  // namespace glnet::test
