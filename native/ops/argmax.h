// argmax: the index of the largest value over the last dimension; the first of equal ones; NaN counts as
// largest.
#pragma once

#include "core/fields.h"

namespace glnet {

struct Argmax {
  static constexpr const char* kName = "argmax";

  In x;   ///< [..., C], C at most 256
  Out y;  ///< x's shape without the last dimension, uint8

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("x", op.x);
    visit("y", op.y);
  }

  void infer() {
    check(!x.shape.empty() && x.size() > 0, kName, ": x is empty: ", x.shape);
    check(x.shape.back() <= 256, kName, ": ", x.shape.back(), " classes do not fit in 8 bits");
    y.shape = Shape(x.shape.begin(), x.shape.end() - 1);
    y.dtype = DType::uint8;
  }

  double multiply_adds() const { return 0; }
};

}  // namespace glnet
