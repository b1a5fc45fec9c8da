#pragma once

#include "test/cases/aggregate_conv_backward.h"

namespace glnet::test {

inline AggregateConvBackwardWeights random_backward_weights(Builder& b, const BackwardSizes& a) {
  AggregateConvBackwardWeights op;
  op.source = make_source(b.tensor(a.source.x), a.source);
  op.dy = {random_dy(b, op.source, a)};
  op.first = a.first;
  op.dweight = {b.tensor(weight_shape(a))};
  return op;
}

inline void aggregate_conv_backward_weights_cases(Suite& suite) {
  for (const BackwardSizes& a : aggregate_backward_sizes()) {
    suite.add<AggregateConvBackwardWeights>(a.name, [=](Builder& b) { return random_backward_weights(b, a); },
                                            {.bfloat16 = false});
  }
  for (const BackwardSizes& a : aggregate_gradient_sizes()) {
    suite.gradient<AggregateConv>(
        "weight of " + a.name, [=](Builder& b) { return forward_of(b, a); }, "y", "weight",
        [=](Builder& b, const AggregateConv& forward, const View& dy) -> View {
          View dweight = b.zeros(forward.weight.shape, DType::float64);
          int first = forward.first;
          for (const GridSource& source : forward.sources) {
            dweight = evaluated(AggregateConvBackwardWeights{{dy}, source, first, {dweight}}, b).dweight;
            first += static_cast<int>(source.channels());
          }
          return dweight;
        });
  }

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, AggregateConvBackwardWeights&)> spoil) {
    suite.refuses<AggregateConvBackwardWeights>(
        name,
        [](Builder& b) {
          return random_backward_weights(
              b, {"", crops({1, 9, 9, 5}, {0, 5}, {1, 2}, 4, 4, {8, 8}), 2, 7, 3, 2, 1});
        },
        spoil, expected);
  };
  refuses("dy on another grid", "dy must have shape [2, 8, 8, 7], and has [2, 8, 9, 7]",
          [](Builder& b, auto& op) { op.dy = {b.tensor({2, 8, 9, 7})}; });
  refuses("dy of other outputs", "dy must have shape [2, 8, 8, 7], and has [2, 8, 8, 6]",
          [](Builder& b, auto& op) { op.dy = {b.tensor({2, 8, 8, 6})}; });
  refuses("dy of another number of patches", "dy must have shape [2, 8, 8, 7], and has [3, 8, 8, 7]",
          [](Builder& b, auto& op) { op.dy = {b.tensor({3, 8, 8, 7})}; });
  refuses("dy in bfloat16", "dy must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.dy = {b.zeros({2, 8, 8, 7}, DType::bfloat16)}; });
  refuses("a source in bfloat16", "source must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.source.x = {b.zeros({1, 9, 9, 5}, DType::bfloat16)}; });
  refuses("dweight in bfloat16", "dweight must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.dweight = {b.zeros({7, 8, 3, 3}, DType::bfloat16)}; });
  refuses("an even kernel", "the kernel of dweight [7, 8, 2, 2] must be square and odd",
          [](Builder& b, auto& op) { op.dweight = {b.tensor({7, 8, 2, 2})}; });
  refuses("channels past the weight's", "dweight [7, 8, 3, 3] has no channels 4 to 8",
          [](Builder&, auto& op) { op.first = 4; });
  refuses("a negative first channel", "has no channels -1 to 3", [](Builder&, auto& op) { op.first = -1; });
  refuses("a source of another rank", "source must have 4 dimensions",
          [](Builder& b, auto& op) { op.source.x = {b.tensor({9, 9, 5})}; });
  refuses("a crop that leaves its map", "the crop at row 6, column 2 of 4 x 4 leaves the map [1, 9, 9, 5]",
          [](Builder&, auto& op) { op.source.tops[1] = 6; });

  for (const BackwardSizes& a : aggregate_bench_sizes()) {
    suite.bench<AggregateConvBackwardWeights>(a.name,
                                              [=](Builder& b) { return random_backward_weights(b, a); });
  }
}

}  // namespace glnet::test
