// slice: some neighbouring channels of a map; the gradient of concat with respect to one of its inputs.
#pragma once

#include "core/fields.h"

namespace glnet {

struct Slice {
  static constexpr const char* kName = "slice";

  In x;           ///< [N, H, W, C], any dtype
  int first = 0;  ///< channel of x that is y's channel 0
  int count = 0;  ///< channels of y, 1 or more
  Out y;          ///< [N, H, W, count], of x's dtype: the very bits

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("x", op.x);
    visit("first", op.first);
    visit("count", op.count);
    visit("y", op.y);
  }

  void infer() {
    check_rank(kName, "x", x, 4);
    check(first >= 0 && count > 0 && first <= x.dim(3) - count, kName, ": ", count, " channels from ", first,
          " are not in x ", x.shape);
    y.shape = x.shape;
    y.shape[3] = count;
    y.dtype = x.dtype;
  }

  double multiply_adds() const { return 0; }
};

}  // namespace glnet
