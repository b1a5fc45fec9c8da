// softmax: y = exp(x) / sum of exp(x) over the last dimension, computed against the largest value. A row
// that has a NaN or +inf, or nothing but -inf, becomes NaN.
#pragma once

#include "core/fields.h"

namespace glnet {

struct Softmax {
  static constexpr const char* kName = "softmax";

  In x;   ///< [..., C], any C
  Out y;  ///< of x's shape and dtype

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("x", op.x);
    visit("y", op.y);
  }

  void infer() {
    check(!x.shape.empty() && x.size() > 0, kName, ": x is empty: ", x.shape);
    y.shape = x.shape;
    y.dtype = x.dtype;
  }

  double multiply_adds() const { return static_cast<double>(x.size()); }
};

}  // namespace glnet
