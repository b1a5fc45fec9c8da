// unfold_resize: the neighbourhood of each pixel of a map, resized bilinearly, one tap of a k x k kernel
// after the other:
//
//   y[n, :, :, t C ... (t + 1) C] = resize(map moved by minus tap t, with zeros moving in)
//
// A product with a convolution's weight, [K, k k C, 1, 1], is then the resized result of that convolution
// with "same" zero padding, at the pixels of the smaller map only: a resize mixes pixels, a tap mixes
// channels.
#pragma once

#include "ops/grid_source.h"

namespace glnet {

struct UnfoldResize {
  static constexpr const char* kName = "unfold_resize";

  GridSource source;  ///< the map, on its target grid; without a window
  int kernel = 0;     ///< k, odd
  int height = 0;     ///< of y
  int width = 0;
  Out y;  ///< [batch of the source, height, width, k k C], row of taps by row; of the source's dtype

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("source", op.source);
    visit("kernel", op.kernel);
    visit("height", op.height);
    visit("width", op.width);
    visit("y", op.y);
  }

  void infer() {
    source.validate(kName);
    check(!source.windowed(), kName, ": the source must have no window");
    check(kernel > 0 && kernel % 2 == 1 && kernel < 100, kName, ": the kernel's side is ", kernel,
          ", and must be odd, and less than 100");
    check(height > 0 && width > 0, kName, ": there is no map of ", height, " x ", width);
    y.shape = {source.batch(), height, width, int64_t{kernel} * kernel * source.channels()};
    y.dtype = source.x.dtype;
  }

  double multiply_adds() const { return 4.0 * y.size(); }
};

}  // namespace glnet
