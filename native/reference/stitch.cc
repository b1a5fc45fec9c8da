#include <cmath>
#include <vector>

#include "reference/kernels.h"

namespace glnet::reference {

void stitch(const Stitch& op, const Context&) {
  const int64_t classes = op.sources[0].logits.dim(3);
  std::vector<double> sums(static_cast<size_t>(classes));
  for (int64_t row = 0; row < op.rows; ++row) {
    for (int64_t column = 0; column < op.image_width; ++column) {
      std::fill(sums.begin(), sums.end(), 0);
      int patches = 0;
      for (const StitchSource& s : op.sources) {
        const auto [y, x] = turn_target(s.turn, op.image_height, op.image_width, op.row + row, column);
        for (size_t n = 0; n < s.tops.size(); ++n) {
          const int64_t v = y - s.tops[n], u = x - s.lefts[n];
          if (v < 0 || u < 0 || v >= s.height || u >= s.width) continue;
          ++patches;
          for (int64_t k = 0; k < classes; ++k) {
            sums[static_cast<size_t>(k)] +=
                load(s.logits, at(s.logits, static_cast<int64_t>(n), v * s.logits.dim(1) / s.height,
                                  u * s.logits.dim(2) / s.width, k));
          }
        }
      }
      size_t label = 0;
      for (size_t k = 1; k < sums.size(); ++k) {
        if (sums[k] > sums[label] || (std::isnan(sums[k]) && !std::isnan(sums[label]))) label = k;
      }
      double total = 0;
      for (const double sum : sums) total += std::exp((sum - sums[label]) / patches);
      const int64_t i = row * op.image_width + column;
      store(op.labels, i, static_cast<double>(label));
      // Not a number where no patch lies, too.
      store(op.confidence, i, std::isnan(total) ? 0 : std::floor(255 / total + 0.5));
    }
  }
}

}  // namespace glnet::reference
