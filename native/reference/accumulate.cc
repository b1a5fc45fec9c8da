#include "reference/kernels.h"

namespace glnet::reference {

void accumulate(const Accumulate& op, const Context&) {
  for (int64_t i = 0; i < op.sum.size(); ++i) store(op.sum, i, load(op.sum, i) + load(op.x, i));
}

}  // namespace glnet::reference
