#include "reference/kernels.h"

namespace glnet::reference {

void relu_backward(const ReluBackward& op, const Context&) {
  for (int64_t i = 0; i < op.dy.size(); ++i) store(op.dx, i, load(op.y, i) <= 0 ? 0 : load(op.dy, i));
}

}  // namespace glnet::reference
