#include "reference/kernels.h"

namespace glnet::reference {

void sum_of_squares(const SumOfSquares& op, const Context&) {
  for (size_t n = 0; n < op.inputs.size(); ++n) {
    const In& x = op.inputs[n];
    double sum = 0;
    for (int64_t i = 0; i < x.size(); ++i) sum += load(x, i) * load(x, i);
    store(op.sums, static_cast<int64_t>(n), sum);
  }
}

}  // namespace glnet::reference
