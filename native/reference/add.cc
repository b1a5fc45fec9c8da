#include "reference/kernels.h"

namespace glnet::reference {

void add(const Add& op, const Context&) {
  for (int64_t i = 0; i < op.a.size(); ++i) store(op.y, i, load(op.a, i) + load(op.b, i));
}

}  // namespace glnet::reference
