// paste: a map written over a part of a larger one, or added to it, in place. The part may be in halves along
// each axis, such as the corners of the larger map.
#pragma once

#include "core/fields.h"
#include "ops/halves.h"

namespace glnet {

struct Paste {
  static constexpr const char* kName = "paste";

  InOut y;                  ///< [N, H, W, C], any dtype
  In x;                     ///< [N, h, w, C], or transposed [N, w, h, C]; of y's dtype
  int top = 0;              ///< row of y that x's first is written to
  int left = 0;             ///< column
  int skip_rows = 0;        ///< of y, between those that x's upper and lower half are written to
  int skip_columns = 0;     ///< the same of columns
  bool add = false;         ///< x is added to what is there; float32 or bfloat16
  bool transposed = false;  ///< rows of x are columns of y

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("y", op.y);
    visit("x", op.x);
    visit("top", op.top);
    visit("left", op.left);
    visit("skipRows", op.skip_rows);
    visit("skipColumns", op.skip_columns);
    visit("add", op.add);
    visit("transposed", op.transposed);
  }

  /// Of the part of y.
  int64_t height() const { return x.dim(transposed ? 2 : 1); }
  int64_t width() const { return x.dim(transposed ? 1 : 2); }

  void infer() {
    check_rank(kName, "y", y, 4);
    check_rank(kName, "x", x, 4);
    check(x.dtype == y.dtype, kName, ": x is ", name_of(x.dtype), ", y is ", name_of(y.dtype));
    check(!add || (y.dtype != DType::uint8 && y.dtype != DType::int32), kName, ": cannot add ",
          name_of(y.dtype));
    check(x.dim(0) == y.dim(0) && x.dim(3) == y.dim(3), kName, ": x ", x.shape, " does not fit y ", y.shape);
    check(has_halves(height(), skip_rows) && has_halves(width(), skip_columns), kName, ": x ", x.shape,
          transposed ? ", transposed," : "", " has no halves to skip ", skip_rows, " rows and ", skip_columns,
          " columns");
    check(top >= 0 && left >= 0 && top <= y.dim(1) - height() - skip_rows &&
              left <= y.dim(2) - width() - skip_columns,
          kName, ": x ", x.shape, transposed ? ", transposed," : "", " at row ", top, ", column ", left,
          " leaves y ", y.shape);
  }

  double multiply_adds() const { return 0; }
};

}  // namespace glnet
