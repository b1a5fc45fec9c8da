#include <vector>

#include "reference/bilinear.h"
#include "reference/kernels.h"

namespace glnet::reference {
namespace {

/// Writes a source's channels of y from `first` on.
void crop_resize(const GridSource& s, const Out& y, int64_t first) {
  const int64_t c = s.channels();
  for (int64_t n = 0; n < y.dim(0); ++n) {
    const int64_t patch = s.batch() == 1 ? 0 : n;
    int64_t h = s.base_height(), w = s.base_width();
    std::vector<double> map;
    for (int64_t row = 0; row < h; ++row) {
      for (int64_t column = 0; column < w; ++column) {
        for (int64_t k = 0; k < c; ++k) {
          const auto i = static_cast<size_t>(patch);
          map.push_back(load(s.x, s.cropped() ? at(s.x, 0, s.tops[i] + row, s.lefts[i] + column, k)
                                              : at(s.x, patch, row, column, k)));
        }
      }
    }
    for (size_t i = 0; i < s.sizes.size(); i += 2) {
      std::vector<double> next(static_cast<size_t>(s.sizes[i]) * static_cast<size_t>(s.sizes[i + 1] * c));
      bilinear(map.data(), h, w, c, next.data(), s.sizes[i], s.sizes[i + 1]);
      map = std::move(next);
      h = s.sizes[i], w = s.sizes[i + 1];
    }
    for (int64_t row = 0; row < y.dim(1); ++row) {
      for (int64_t column = 0; column < y.dim(2); ++column) {
        const int64_t r = position_of(row, s.window_top, y.dim(1), s.window_skip_rows);
        const int64_t t = position_of(column, s.window_left, y.dim(2), s.window_skip_columns);
        const bool inside = r >= 0 && r < h && t >= 0 && t < w;
        for (int64_t k = 0; k < c; ++k) {
          store(y, at(y, n, row, column, first + k),
                inside ? map[static_cast<size_t>((r * w + t) * c + k)] : 0.0);
        }
      }
    }
  }
}

}  // namespace

void crop_resize(const CropResize& op, const Context&) {
  int64_t first = 0;
  for (const GridSource& s : op.sources) {
    crop_resize(s, op.y, first);
    first += s.channels();
  }
}

}  // namespace glnet::reference
