#include <algorithm>
#include <cmath>
#include <limits>

#include "reference/kernels.h"

namespace glnet::reference {

void softmax(const Softmax& op, const Context&) {
  const int64_t classes = op.x.shape.back();
  for (int64_t first = 0; first < op.x.size(); first += classes) {
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t k = 0; k < classes; ++k) largest = std::max(largest, load(op.x, first + k));
    for (int64_t k = 0; k < classes; ++k) sum += std::exp(load(op.x, first + k) - largest);
    for (int64_t k = 0; k < classes; ++k) {
      store(op.y, first + k, std::exp(load(op.x, first + k) - largest) / sum);
    }
  }
}

}  // namespace glnet::reference
