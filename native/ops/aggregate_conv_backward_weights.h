// aggregate_conv_backward_weights: the gradient of aggregate_conv with respect to the input channels of its
// weight that belong to one of its sources:
//
//   dweight[:, first : first + C] += the gradient with respect to w of sum(dy * conv(resize(crop(x)), w))
//
// In tap form, as aggregate_conv: the adjoint of the gather gives G [own pixel, k, k, K], and the gradient is
// the product of G's transpose with x. The sums over pixels and patches are kept to float32's precision by
// adding parts of them in double; the bits do not depend on the run.
#pragma once

#include "ops/grid_source.h"

namespace glnet {

struct AggregateConvBackwardWeights {
  static constexpr const char* kName = "aggregate_conv_backward_weights";

  In dy;              ///< [N, height, width, K] on the source's target grid, float32: the gradient of y
  GridSource source;  ///< of N patches, or of 1, which is the same for every patch; of dy's dtype
  int first = 0;      ///< the input channel of dweight at which this source begins
  InOut dweight;  ///< [K, channels, k, k], k odd, of dy's dtype: added to; other channels keep their values

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("dy", op.dy);
    visit("source", op.source);
    visit("first", op.first);
    visit("dweight", op.dweight);
  }

  void infer() {
    source.validate(kName);
    check(!source.windowed(), kName, ": a source with a window has no gradient");
    check_float32(kName, "dy", dy);
    check_rank(kName, "dy", dy, 4);
    check_dtype(kName, "source", source.x, dy.dtype);
    check_rank(kName, "dweight", dweight, 4);
    check_dtype(kName, "dweight", dweight, dy.dtype);
    check(dweight.dim(2) == dweight.dim(3) && dweight.dim(2) % 2 == 1, kName, ": the kernel of dweight ",
          dweight.shape, " must be square and odd");
    const int64_t batch = source.batch() == 1 ? dy.dim(0) : source.batch();
    check_shape(kName, "dy", dy, {batch, source.height(), source.width(), dweight.dim(0)});
    check(first >= 0 && first + source.channels() <= dweight.dim(1), kName, ": dweight ", dweight.shape,
          " has no channels ", first, " to ", first + source.channels() - 1);
  }

  /// Of the tap form: on the smaller of the source's own grid and the target's.
  double multiply_adds() const {
    const int64_t pixels =
        std::min(source.base_height() * source.base_width(), source.height() * source.width());
    return static_cast<double>(source.batch() * pixels * source.channels()) *
           static_cast<double>(dweight.dim(0) * dweight.dim(2) * dweight.dim(3));
  }
};

}  // namespace glnet
