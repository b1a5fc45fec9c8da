// accumulate: sum += x, in place: adds up gradients that reach a map along several ways.
#pragma once

#include "core/fields.h"

namespace glnet {

struct Accumulate {
  static constexpr const char* kName = "accumulate";

  InOut sum;  ///< any shape, float32
  In x;       ///< of sum's shape, float32; another tensor than sum

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("sum", op.sum);
    visit("x", op.x);
  }

  void infer() {
    check_float32(kName, "sum", sum);
    check_float32(kName, "x", x);
    check_shape(kName, "x", x, sum.shape);
  }

  double multiply_adds() const { return 0; }
};

}  // namespace glnet
