// decode_patches: cuts patches out of 8-bit pixels and decodes them to [0, 1] (value / 255; no mean, no
// deviation). Past the right and bottom edge of the image the pixels are mirrored, the edge itself not
// repeated, as often as it takes; an image of one pixel across is constant there.
#pragma once

#include "core/fields.h"
#include "ops/turn.h"

namespace glnet {

struct DecodePatches {
  static constexpr const char* kName = "decode_patches";

  In x;                    ///< [H, W, C], uint8: an image, or the window of one in which all the patches lie
  std::vector<int> tops;   ///< first row of each patch, in the window as turned
  std::vector<int> lefts;  ///< first column of each patch
  int height = 0;          ///< of a patch
  int width = 0;
  int turn = 0;  ///< flip and quarter turn of the window, see turn.h
  DType dtype = DType::float32;
  Out y;  ///< [patches, height, width, C], float32 or bfloat16; the correctly rounded quotient

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("x", op.x);
    visit("tops", op.tops);
    visit("lefts", op.lefts);
    visit("height", op.height);
    visit("width", op.width);
    visit("turn", op.turn);
    visit("dtype", op.dtype);
    visit("y", op.y);
  }

  void infer() {
    check_rank(kName, "x", x, 3);
    check_dtype(kName, "x", x, DType::uint8);
    check_turn(kName, turn);
    check(height > 0 && width > 0, kName, ": the size ", height, " x ", width, " must be positive");
    check(!tops.empty() && tops.size() == lefts.size(), kName, ": there are ", tops.size(), " tops and ",
          lefts.size(), " lefts");
    const int64_t h = x.dim(turn_swaps(turn) ? 1 : 0), w = x.dim(turn_swaps(turn) ? 0 : 1);
    for (size_t i = 0; i < tops.size(); ++i) {
      check(tops[i] >= 0 && lefts[i] >= 0 && tops[i] < h && lefts[i] < w, kName, ": the patch at row ",
            tops[i], ", column ", lefts[i], " lies outside the window of ", h, " x ", w);
    }
    check(is_floating(dtype) && dtype != DType::float16, kName, ": cannot decode to ", name_of(dtype));
    y.shape = {static_cast<int64_t>(tops.size()), height, width, x.dim(2)};
    y.dtype = dtype;
  }

  double multiply_adds() const { return static_cast<double>(y.size()); }
};

}  // namespace glnet
