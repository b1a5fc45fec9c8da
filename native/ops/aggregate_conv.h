// aggregate_conv: the fused aggregation convolution. A convolution with "same" zero padding over the channel
// concatenation of maps that live on different grids, without building the concatenation or the resized maps:
//
//   y = relu(conv(cat over sources of resize(crop(source)), weight[:, first : first + channels]) + bias +
//   addend)
//
// A resize mixes pixels, a tap of the kernel mixes channels, so they commute: the taps of a small source are
// applied on its own grid, and the products gathered (docs/architecture.md). Exact, zero padding included.
// With relu, NaN may become 0.
#pragma once

#include "ops/grid_source.h"

namespace glnet {

struct AggregateConv {
  static constexpr const char* kName = "aggregate_conv";

  std::vector<GridSource>
      sources;    ///< all of one height and width on the target grid; concatenated in this order
  In weight;      ///< [K, C, k, k], k odd; C may exceed the channels of the sources
  Maybe bias;     ///< [K], float32
  Maybe addend;   ///< of y's shape and dtype; must not be y
  int first = 0;  ///< the input channel of weight at which the sources begin
  bool relu = false;
  bool overwrite = false;  ///< y takes the addend's memory: it is read for the last time
  Out y;                   ///< [N, height, width, K], of the sources' dtype; accumulated in float32 at least

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("sources", op.sources);
    visit("weight", op.weight);
    visit("bias", op.bias);
    visit("addend", op.addend);
    visit("first", op.first);
    visit("relu", op.relu);
    visit("overwrite", op.overwrite);
    visit("y", op.y);
  }

  const View* reused() const { return overwrite ? &addend : nullptr; }

  void infer() {
    const Shape joined = joined_shape(kName, sources);
    check(!overwrite || addend, kName, ": there is no addend to overwrite");
    check_rank(kName, "weight", weight, 4);
    check(weight.dim(2) == weight.dim(3) && weight.dim(2) % 2 == 1, kName, ": the kernel of weight ",
          weight.shape, " must be square and odd");
    for (const GridSource& s : sources) {
      check_dtype(kName, "source", s.x, weight.dtype);
      check(!overwrite || addend.data != s.x.data, kName,
            ": a source cannot be overwritten while it is read");
    }
    check(first >= 0 && first + joined[3] <= weight.dim(1), kName, ": weight ", weight.shape,
          " has no channels ", first, " to ", first + joined[3] - 1);
    if (bias) check_shape(kName, "bias", bias, {weight.dim(0)});
    y.shape = {joined[0], joined[1], joined[2], weight.dim(0)};
    y.dtype = weight.dtype;
    if (addend) {
      check_shape(kName, "addend", addend, y.shape);
      check_dtype(kName, "addend", addend, y.dtype);
    }
  }

  /// Of the tap form: each source on the smaller of its own grid and the target's.
  double multiply_adds() const {
    double sum = 0;
    const double taps = static_cast<double>(weight.dim(2) * weight.dim(3));
    for (const GridSource& s : sources) {
      const auto target = s.height() * s.width();
      sum += static_cast<double>(std::min(s.own_pixels(), target)) * static_cast<double>(s.channels()) *
             static_cast<double>(s.batch()) * taps * static_cast<double>(weight.dim(0));
    }
    return sum;
  }
};

}  // namespace glnet
