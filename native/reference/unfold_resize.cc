#include <vector>

#include "reference/bilinear.h"
#include "reference/kernels.h"

namespace glnet::reference {

void unfold_resize(const UnfoldResize& op, const Context& context) {
  CropResize resize;
  resize.sources = {op.source};
  resize.infer();
  std::vector<double> resized(static_cast<size_t>(resize.y.size()));
  resize.y.data = resized.data();
  resize.y.dtype = DType::float64;
  crop_resize(resize, context);

  const int64_t h = resize.y.dim(1), w = resize.y.dim(2), channels = resize.y.dim(3);
  std::vector<double> moved(static_cast<size_t>(h * w * channels));
  std::vector<double> small(static_cast<size_t>(op.height * op.width * channels));
  for (int64_t n = 0; n < resize.y.dim(0); ++n) {
    for (int64_t tap = 0; tap < op.kernel * op.kernel; ++tap) {
      const int64_t down = tap / op.kernel - op.kernel / 2, right = tap % op.kernel - op.kernel / 2;
      for (int64_t i = 0; i < h * w * channels; ++i) {
        const int64_t row = i / channels / w + down, column = i / channels % w + right;
        const bool inside = row >= 0 && row < h && column >= 0 && column < w;
        moved[static_cast<size_t>(i)] =
            inside ? load(resize.y, at(resize.y, n, row, column, i % channels)) : 0;
      }
      bilinear(moved.data(), h, w, channels, small.data(), op.height, op.width);
      for (int64_t i = 0; i < op.height * op.width * channels; ++i) {
        const int64_t pixel = i / channels;
        store(op.y, at(op.y, n, pixel / op.width, pixel % op.width, tap * channels + i % channels),
              small[static_cast<size_t>(i)]);
      }
    }
  }
}

}  // namespace glnet::reference
