// add: y = a + b, of the same shape.
#pragma once

#include "core/fields.h"

namespace glnet {

struct Add {
  static constexpr const char* kName = "add";

  In a, b;  ///< any shape, the same for both, and dtype
  Out y;    ///< likewise

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("a", op.a);
    visit("b", op.b);
    visit("y", op.y);
  }

  void infer() {
    check_shape(kName, "b", b, a.shape);
    check_dtype(kName, "b", b, a.dtype);
    y.shape = a.shape;
    y.dtype = a.dtype;
  }

  double multiply_adds() const { return 0; }
};

}  // namespace glnet
