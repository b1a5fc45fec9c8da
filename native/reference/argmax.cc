#include <cmath>

#include "reference/kernels.h"

namespace glnet::reference {

void argmax(const Argmax& op, const Context&) {
  const int64_t classes = op.x.shape.back();
  for (int64_t i = 0; i < op.y.size(); ++i) {
    int64_t label = 0;
    for (int64_t k = 1; k < classes; ++k) {
      const double best = load(op.x, i * classes + label), v = load(op.x, i * classes + k);
      if (v > best || (std::isnan(v) && !std::isnan(best))) label = k;
    }
    store(op.y, i, static_cast<double>(label));
  }
}

}  // namespace glnet::reference
