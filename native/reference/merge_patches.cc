#include <vector>

#include "reference/bilinear.h"
#include "reference/kernels.h"

namespace glnet::reference {

void merge_patches(const MergePatches& op, const Context&) {
  const View &x = op.x, &sum = op.sum;
  const int64_t h = x.dim(1), w = x.dim(2), c = x.dim(3);
  std::vector<double> total(static_cast<size_t>(sum.size()));
  for (size_t i = 0; i < total.size(); ++i) total[i] = load(sum, static_cast<int64_t>(i));
  std::vector<double> from(static_cast<size_t>(h * w * c));
  std::vector<double> to(static_cast<size_t>(c) * static_cast<size_t>(op.height) *
                         static_cast<size_t>(op.width));
  for (size_t n = 0; n < op.tops.size(); ++n) {
    for (size_t i = 0; i < from.size(); ++i) {
      from[i] = load(x, at(x, static_cast<int64_t>(n), 0, 0, static_cast<int64_t>(i)));
    }
    bilinear(from.data(), h, w, c, to.data(), op.height, op.width);
    for (int64_t row = 0; row < op.height; ++row) {
      for (int64_t i = 0; i < op.width * c; ++i) {
        total[static_cast<size_t>(at(sum, 0, op.tops[n] + row, op.lefts[n], i))] +=
            to[static_cast<size_t>(row * op.width * c + i)];
      }
    }
  }
  for (int64_t i = 0; i < sum.size(); ++i) {
    double v = total[static_cast<size_t>(i)];
    if (!op.row_coverage.empty()) {
      const double coverage = static_cast<double>(op.row_coverage[static_cast<size_t>(i / c / sum.dim(2))]) *
                              op.column_coverage[static_cast<size_t>(i / c % sum.dim(2))];
      v = coverage == 0 ? 0 : v / coverage;
    }
    store(sum, i, v);
  }
}

}  // namespace glnet::reference
