#include "reference/kernels.h"

namespace glnet::reference {

void cast(const Cast& op, const Context&) {
  for (int64_t i = 0; i < op.x.size(); ++i) store(op.y, i, load(op.x, i));
}

}  // namespace glnet::reference
