// triangle_resize: the antialiased resize of 8-bit pixels that makes the global image: a triangle filter as
// wide as the reduction, horizontal pass first, each pass rounded to 8 bits (what Pillow calls BILINEAR). It
// streams: the image comes in bands of rows from top to bottom, and only sums of the output's size are kept.
//
// Along an axis of `in` to `out` pixels: scale = in / out, support = max(scale, 1), centre = (i + 0.5) *
// scale; the pixels from floor(centre - support + 0.5) to before floor(centre + support + 0.5), cut to the
// image, have weights max(0, 1 - |(j - centre + 0.5) * (1 / support)|), divided by their sum and rounded to
// 22 fractional bits; all of this in double and in this order, to give Pillow's very bits.
#pragma once

#include "core/fields.h"

namespace glnet {

struct TriangleResize {
  static constexpr const char* kName = "triangle_resize";

  In x;       ///< [rows, W, C], uint8: a band of the image
  InOut sum;  ///< [height, width, C], int32, 22 fractional bits: of the bands so far, not rounded; its values
              ///< before the first band (row 0) do not matter
  int row = 0;           ///< the band's first row in the image
  int image_height = 0;  ///< of all bands together
  Out y;  ///< [height, width, C], uint8: the sums, rounded to nearest, at most 255; complete after the last
          ///< band

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("x", op.x);
    visit("sum", op.sum);
    visit("row", op.row);
    visit("imageHeight", op.image_height);
    visit("y", op.y);
  }

  void infer() {
    check_rank(kName, "x", x, 3);
    check_rank(kName, "sum", sum, 3);
    check_dtype(kName, "x", x, DType::uint8);
    check_dtype(kName, "sum", sum, DType::int32);
    check(x.dim(2) == sum.dim(2), kName, ": x ", x.shape, " and sum ", sum.shape, " differ in channels");
    check(row >= 0 && row + x.dim(0) <= image_height, kName, ": the band of ", x.dim(0), " rows from row ",
          row, " leaves the image of ", image_height, " rows");
    y.shape = sum.shape;
    y.dtype = DType::uint8;
  }

  double multiply_adds() const {
    const double reduction = std::max(1.0, static_cast<double>(x.dim(1)) / static_cast<double>(sum.dim(1)));
    return 2 * reduction * static_cast<double>(x.dim(0) * sum.dim(1) * x.dim(2));
  }
};

}  // namespace glnet
