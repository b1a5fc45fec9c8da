#include <vector>

#include "reference/bilinear.h"
#include "reference/kernels.h"

namespace glnet::reference {

void resize(const Resize& op, const Context&) {
  const View &x = op.x, &y = op.y;
  const int64_t h = x.dim(1), w = x.dim(2), c = x.dim(3);
  if (op.interpolation == Interpolation::nearest) {
    for (int64_t i = 0; i < y.size(); ++i) {
      const int64_t k = i % c, column = i / c % op.width, row = i / c / op.width % op.height;
      const int64_t n = i / c / op.width / op.height;
      store(y, i, load(x, at(x, n, row * h / op.height, column * w / op.width, k)));
    }
    return;
  }
  std::vector<double> from(static_cast<size_t>(h * w * c)), to(static_cast<size_t>(y.size() / x.dim(0)));
  for (int64_t n = 0; n < x.dim(0); ++n) {
    for (size_t i = 0; i < from.size(); ++i) from[i] = load(x, at(x, n, 0, 0, static_cast<int64_t>(i)));
    bilinear(from.data(), h, w, c, to.data(), op.height, op.width);
    for (size_t i = 0; i < to.size(); ++i) store(y, at(y, n, 0, 0, static_cast<int64_t>(i)), to[i]);
  }
}

}  // namespace glnet::reference
