#include "reference/kernels.h"

namespace glnet::reference {

void relu(const Relu& op, const Context&) {
  for (int64_t i = 0; i < op.x.size(); ++i) {
    const double v = load(op.x, i);
    store(op.y, i, v < 0 ? 0 : v);
  }
}

}  // namespace glnet::reference
