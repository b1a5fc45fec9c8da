// channel_sum: sum += the sum of x over its pixels, a sum a channel: the gradient of a bias.
#pragma once

#include "core/fields.h"

namespace glnet {

struct ChannelSum {
  static constexpr const char* kName = "channel_sum";

  In x;       ///< [N, H, W, C], float32
  InOut sum;  ///< [C], float32: added to

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("x", op.x);
    visit("sum", op.sum);
  }

  void infer() {
    check_rank(kName, "x", x, 4);
    check_float32(kName, "x", x);
    check_shape(kName, "sum", sum, {x.dim(3)});
    check_float32(kName, "sum", sum);
  }

  /// Values of each channel.
  int64_t pixels() const { return x.dim(0) * x.dim(1) * x.dim(2); }

  double multiply_adds() const { return static_cast<double>(x.size()); }
};

}  // namespace glnet
