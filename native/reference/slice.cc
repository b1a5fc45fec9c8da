#include "reference/kernels.h"

namespace glnet::reference {

void slice(const Slice& op, const Context&) {
  const int64_t channels = op.x.dim(3), pixels = op.x.size() / channels;
  for (int64_t i = 0; i < pixels; ++i) {
    for (int64_t c = 0; c < op.count; ++c)
      store(op.y, i * op.count + c, load(op.x, i * channels + op.first + c));
  }
}

}  // namespace glnet::reference
