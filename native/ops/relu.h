// relu: y = max(x, 0); NaN stays NaN.
#pragma once

#include "core/fields.h"

namespace glnet {

struct Relu {
  static constexpr const char* kName = "relu";

  In x;   ///< any shape
  Out y;  ///< of x's shape and dtype

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("x", op.x);
    visit("y", op.y);
  }

  void infer() {
    y.shape = x.shape;
    y.dtype = x.dtype;
  }

  double multiply_adds() const { return 0; }
};

}  // namespace glnet
