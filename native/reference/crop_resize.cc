#include <vector>

#include "reference/bilinear.h"
#include "reference/kernels.h"

namespace glnet::reference {

void crop_resize(const CropResize& op, const Context&) {
  const GridSource& s = op.source;
  const int64_t c = s.channels();
  for (int64_t n = 0; n < s.batch(); ++n) {
    int64_t h = s.base_height(), w = s.base_width();
    std::vector<double> map;
    for (int64_t row = 0; row < h; ++row) {
      for (int64_t column = 0; column < w; ++column) {
        for (int64_t k = 0; k < c; ++k) {
          const size_t patch = static_cast<size_t>(n);
          map.push_back(load(s.x, s.cropped() ? at(s.x, 0, s.tops[patch] + row, s.lefts[patch] + column, k)
                                              : at(s.x, n, row, column, k)));
        }
      }
    }
    for (size_t i = 0; i < s.sizes.size(); i += 2) {
      std::vector<double> next(static_cast<size_t>(s.sizes[i]) * static_cast<size_t>(s.sizes[i + 1] * c));
      bilinear(map.data(), h, w, c, next.data(), s.sizes[i], s.sizes[i + 1]);
      map = std::move(next);
      h = s.sizes[i], w = s.sizes[i + 1];
    }
    for (int64_t row = 0; row < op.y.dim(1); ++row) {
      for (int64_t column = 0; column < op.y.dim(2); ++column) {
        const int64_t r = row + s.window_top, t = column + s.window_left;
        const bool inside = r >= 0 && r < h && t >= 0 && t < w;
        for (int64_t k = 0; k < c; ++k) {
          store(op.y, at(op.y, n, row, column, k),
                inside ? map[static_cast<size_t>((r * w + t) * c + k)] : 0.0);
        }
      }
    }
  }
}

}  // namespace glnet::reference
