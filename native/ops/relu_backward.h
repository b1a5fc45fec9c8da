// relu_backward: dx = dy where y > 0, else 0. A NaN in y lets dy through, so that it shows further back; one
// in dy where y <= 0 ends there.
#pragma once

#include "core/fields.h"

namespace glnet {

struct ReluBackward {
  static constexpr const char* kName = "relu_backward";

  In dy;   ///< any shape, float32
  In y;    ///< of dy's shape and dtype: what relu gave
  Out dx;  ///< of dy's shape and dtype

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("dy", op.dy);
    visit("y", op.y);
    visit("dx", op.dx);
  }

  void infer() {
    check_float32(kName, "dy", dy);
    check_shape(kName, "y", y, dy.shape);
    check_dtype(kName, "y", y, dy.dtype);
    dx.shape = dy.shape;
    dx.dtype = dy.dtype;
  }

  double multiply_adds() const { return 0; }
};

}  // namespace glnet
