#pragma once

#include "test/cases/aggregate_conv_backward.h"

namespace glnet::test {

inline AggregateConvBackwardData random_backward_data(Builder& b, const BackwardSizes& a, bool addend) {
  AggregateConvBackwardData op;
  const GridSource source = make_source(b.zeros(a.source.x, b.dtype()), a.source);
  op.dy = {random_dy(b, source, a)};
  op.weight = {b.tensor(weight_shape(a))};
  op.source = source.geometry();
  op.first = a.first;
  if (addend) op.addend = {b.tensor(a.source.x)};
  return op;
}

inline void aggregate_conv_backward_data_cases(Suite& suite) {
  bool addend = false;
  // Sums of up to 11 000 terms, of which CUDA adds one after the other: 1.2e-12 on an H100.
  const Limits limits{.bfloat16 = false, .float32 = 2e-12};
  for (const BackwardSizes& a : aggregate_backward_sizes()) {
    suite.add<AggregateConvBackwardData>(
        a.name, [=](Builder& b) { return random_backward_data(b, a, addend); }, limits);
    addend = !addend;
  }
  for (const BackwardSizes& a : aggregate_gradient_sizes()) {
    suite.gradient<AggregateConv>(
        "x of " + a.name, [=](Builder& b) { return forward_of(b, a); }, "y", "x",
        [=](Builder& b, const AggregateConv& forward, const View& dy) -> View {
          return evaluated(
                     AggregateConvBackwardData{
                         {dy}, forward.weight, forward.sources[0].geometry(), forward.first, {}, {}},
                     b)
              .dx;
        });
  }

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, AggregateConvBackwardData&)> spoil) {
    suite.refuses<AggregateConvBackwardData>(
        name,
        [](Builder& b) {
          return random_backward_data(
              b, {"", crops({1, 9, 9, 5}, {0, 5}, {1, 2}, 4, 4, {8, 8}), 2, 7, 3, 2, 1}, true);
        },
        spoil, expected);
  };
  refuses("dy on another grid", "dy must have shape [2, 8, 8, 7], and has [2, 8, 9, 7]",
          [](Builder& b, auto& op) { op.dy = {b.tensor({2, 8, 9, 7})}; });
  refuses("dy of other outputs", "dy must have shape [2, 8, 8, 7], and has [2, 8, 8, 6]",
          [](Builder& b, auto& op) { op.dy = {b.tensor({2, 8, 8, 6})}; });
  refuses("dy of another number of patches", "dy must have shape [2, 8, 8, 7], and has [3, 8, 8, 7]",
          [](Builder& b, auto& op) { op.dy = {b.tensor({3, 8, 8, 7})}; });
  refuses("dy of another rank", "dy must have 4 dimensions",
          [](Builder& b, auto& op) { op.dy = {b.tensor({8, 8, 7})}; });
  refuses("dy in bfloat16", "dy must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.dy = {b.zeros({2, 8, 8, 7}, DType::bfloat16)}; });
  refuses("a weight in bfloat16", "weight must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.weight = {b.zeros({7, 8, 3, 3}, DType::bfloat16)}; });
  refuses("an even kernel", "the kernel of weight [7, 8, 2, 2] must be square and odd",
          [](Builder& b, auto& op) { op.weight = {b.tensor({7, 8, 2, 2})}; });
  refuses("channels past the weight's", "weight [7, 8, 3, 3] has no channels 4 to 8",
          [](Builder&, auto& op) { op.first = 4; });
  refuses("a negative first channel", "has no channels -1 to 3", [](Builder&, auto& op) { op.first = -1; });
  refuses("an addend of another shape", "addend must have shape [1, 9, 9, 5], and has [1, 8, 9, 5]",
          [](Builder& b, auto& op) { op.addend = {b.tensor({1, 8, 9, 5})}; });
  refuses("a map without rows", "the source's map must have a positive size, and is [1, 0, 9, 5]",
          [](Builder&, auto& op) { op.source.map_height = 0; });
  refuses("a crop that leaves its map", "the crop at row 6, column 2 of 4 x 4 leaves the map [1, 9, 9, 5]",
          [](Builder&, auto& op) { op.source.tops[1] = 6; });

  for (const BackwardSizes& a : aggregate_bench_sizes()) {
    suite.bench<AggregateConvBackwardData>(a.name,
                                           [=](Builder& b) { return random_backward_data(b, a, false); });
  }
}

}  // namespace glnet::test
