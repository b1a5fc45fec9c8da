// resize: bilinear (half-pixel centres, no corner alignment, no antialiasing, also when it shrinks) or
// nearest (the source pixel of output i is floor(i * in / out)).
//
// Bilinear: output i of `out` reads position s = max((i + 0.5) * in / out - 0.5, 0), between floor(s) and the
// next pixel (the last one at the end), with weights 1 - frac(s) and frac(s). A pixel of weight zero has no
// effect, even if it is NaN or infinite.
#pragma once

#include "core/fields.h"

namespace glnet {

enum class Interpolation : uint8_t { bilinear, nearest };
template <>
struct EnumNames<Interpolation> {
  static constexpr const char* kNames[] = {"bilinear", "nearest"};
};

struct Resize {
  static constexpr const char* kName = "resize";

  In x;  ///< [N, H, W, C]
  int height = 0;
  int width = 0;
  Interpolation interpolation = Interpolation::bilinear;
  Out y;  ///< [N, height, width, C], of x's dtype

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("x", op.x);
    visit("height", op.height);
    visit("width", op.width);
    visit("interpolation", op.interpolation);
    visit("y", op.y);
  }

  void infer() {
    check_rank(kName, "x", x, 4);
    check(height > 0 && width > 0, kName, ": the size ", height, " x ", width, " must be positive");
    y.shape = {x.dim(0), height, width, x.dim(3)};
    y.dtype = x.dtype;
  }

  double multiply_adds() const { return interpolation == Interpolation::bilinear ? 4.0 * y.size() : 0.0; }
};

}  // namespace glnet
