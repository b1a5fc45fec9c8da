#include "reference/kernels.h"

namespace glnet::reference {

void paste(const Paste& op, const Context&) {
  for (int64_t n = 0; n < op.x.dim(0); ++n) {
    for (int64_t row = 0; row < op.height(); ++row) {
      for (int64_t column = 0; column < op.width(); ++column) {
        for (int64_t c = 0; c < op.x.dim(3); ++c) {
          const int64_t to = at(op.y, n, position_of(row, op.top, op.height(), op.skip_rows),
                                position_of(column, op.left, op.width(), op.skip_columns), c);
          const int64_t from = op.transposed ? at(op.x, n, column, row, c) : at(op.x, n, row, column, c);
          store(op.y, to, op.add ? load(op.y, to) + load(op.x, from) : load(op.x, from));
        }
      }
    }
  }
}

}  // namespace glnet::reference
