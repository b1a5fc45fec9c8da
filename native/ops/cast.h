// cast: y = x in another floating dtype. float16 is read only.
#pragma once

#include "core/fields.h"

namespace glnet {

template <>
struct EnumNames<DType> {
  static constexpr const char* kNames[] = {"float32", "bfloat16", "float16", "float64", "int32", "uint8"};
};

struct Cast {
  static constexpr const char* kName = "cast";

  In x;                          ///< any shape; float32, bfloat16 or float16
  DType dtype = DType::float32;  ///< float32 or bfloat16 (the reference: float64, too)
  Out y;                         ///< of x's shape, rounded to nearest even

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("x", op.x);
    visit("dtype", op.dtype);
    visit("y", op.y);
  }

  void infer() {
    check(is_floating(x.dtype), kName, ": x must be floating, and is ", name_of(x.dtype));
    check(dtype == DType::float32 || dtype == DType::bfloat16 || dtype == DType::float64, kName,
          ": cannot cast to ", name_of(dtype));
    y.shape = x.shape;
    y.dtype = dtype;
  }

  double multiply_adds() const { return 0; }
};

}  // namespace glnet
