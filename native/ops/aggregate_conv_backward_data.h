// aggregate_conv_backward_data: the gradient of aggregate_conv with respect to one of its sources:
//
//   dx = the adjoint of conv(resize(crop(.)), weight[:, first : first + C]) applied to dy + addend
//
// A map that is the same for every patch gets the sum over the patches. In tap form, as aggregate_conv: the
// adjoint of the gather gives G [own pixel, k, k, K], and dx is the product of G with the taps' matrices.
// The bits depend neither on the run nor, with crops that overlap, on the order in which threads finish.
#pragma once

#include "ops/grid_source.h"

namespace glnet {

struct AggregateConvBackwardData {
  static constexpr const char* kName = "aggregate_conv_backward_data";

  In dy;               ///< [N, height, width, K] on the source's target grid, float32: the gradient of y
  In weight;           ///< [K, channels, k, k], k odd, of dy's dtype; may have more channels than the source
  MapGeometry source;  ///< of N patches, or of 1, which is the same for every patch
  int first = 0;       ///< the input channel of weight at which this source begins
  Maybe addend;        ///< of dx's shape and dtype: what is known of the map's gradient already
  Out dx;              ///< of the map's shape, of dy's dtype

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("dy", op.dy);
    visit("weight", op.weight);
    visit("source", op.source);
    visit("first", op.first);
    visit("addend", op.addend);
    visit("dx", op.dx);
  }

  void infer() {
    source.validate(kName);
    check_float32(kName, "dy", dy);
    check_rank(kName, "dy", dy, 4);
    check_rank(kName, "weight", weight, 4);
    check_dtype(kName, "weight", weight, dy.dtype);
    check(weight.dim(2) == weight.dim(3) && weight.dim(2) % 2 == 1, kName, ": the kernel of weight ",
          weight.shape, " must be square and odd");
    const int64_t batch = source.batch() == 1 ? dy.dim(0) : source.batch();
    check_shape(kName, "dy", dy, {batch, source.height(), source.width(), weight.dim(0)});
    check(first >= 0 && first + source.channels() <= weight.dim(1), kName, ": weight ", weight.shape,
          " has no channels ", first, " to ", first + source.channels() - 1);
    dx.shape = source.map_shape();
    dx.dtype = dy.dtype;
    if (addend) {
      check_shape(kName, "addend", addend, dx.shape);
      check_dtype(kName, "addend", addend, dx.dtype);
    }
  }

  /// Of the tap form: on the smaller of the source's own grid and the target's.
  double multiply_adds() const {
    const int64_t pixels =
        std::min(source.base_height() * source.base_width(), source.height() * source.width());
    return static_cast<double>(source.batch() * pixels * source.channels()) *
           static_cast<double>(weight.dim(0) * weight.dim(2) * weight.dim(3));
  }
};

}  // namespace glnet
