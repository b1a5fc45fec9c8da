#include "reference/kernels.h"

namespace glnet::reference {

void paste(const Paste& op, const Context&) {
  for (int64_t n = 0; n < op.x.dim(0); ++n) {
    for (int64_t row = 0; row < op.x.dim(1); ++row) {
      for (int64_t column = 0; column < op.x.dim(2); ++column) {
        for (int64_t c = 0; c < op.x.dim(3); ++c) {
          store(op.y, at(op.y, n, op.top + row, op.left + column, c),
                load(op.x, at(op.x, n, row, column, c)));
        }
      }
    }
  }
}

}  // namespace glnet::reference
