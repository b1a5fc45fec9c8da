#include <vector>

#include "reference/bilinear.h"
#include "reference/kernels.h"

namespace glnet::reference {

void crop_resize_backward(const CropResizeBackward& op, const Context&) {
  const MapGeometry& s = op.source;
  const int64_t c = s.channels();
  std::vector<double> sums(static_cast<size_t>(op.dx.size()));
  for (int64_t i = 0; op.addend && i < op.dx.size(); ++i) sums[static_cast<size_t>(i)] = load(op.addend, i);
  for (int64_t n = 0; n < s.batch(); ++n) {
    int64_t h = s.height(), w = s.width();
    std::vector<double> map(static_cast<size_t>(h * w * c));
    for (size_t i = 0; i < map.size(); ++i) {
      map[i] = load(op.dy, at(op.dy, n, 0, 0, static_cast<int64_t>(i)));
    }
    for (size_t i = s.sizes.size(); i > 0; i -= 2) {
      const int64_t before_h = i > 2 ? s.sizes[i - 4] : s.base_height();
      const int64_t before_w = i > 2 ? s.sizes[i - 3] : s.base_width();
      std::vector<double> before(static_cast<size_t>(before_h * before_w * c));
      bilinear_backward(map.data(), h, w, c, before.data(), before_h, before_w);
      map = std::move(before);
      h = before_h, w = before_w;
    }
    const auto patch = static_cast<size_t>(n);
    for (int64_t row = 0; row < h; ++row) {
      for (int64_t column = 0; column < w; ++column) {
        const int64_t pixel = s.cropped() ? at(op.dx, 0, s.tops[patch] + row, s.lefts[patch] + column, 0)
                                          : at(op.dx, n, row, column, 0);
        for (int64_t k = 0; k < c; ++k) {
          sums[static_cast<size_t>(pixel + k)] += map[static_cast<size_t>((row * w + column) * c + k)];
        }
      }
    }
  }
  for (int64_t i = 0; i < op.dx.size(); ++i) store(op.dx, i, sums[static_cast<size_t>(i)]);
}

}  // namespace glnet::reference
