#include "reference/kernels.h"

namespace glnet::reference {

void concat(const Concat& op, const Context&) {
  const int64_t pixels = op.y.size() / op.y.dim(3);
  int64_t first = 0;
  for (const In& x : op.inputs) {
    const int64_t channels = x.dim(3);
    for (int64_t i = 0; i < pixels; ++i) {
      for (int64_t c = 0; c < channels; ++c)
        store(op.y, i * op.y.dim(3) + first + c, load(x, i * channels + c));
    }
    first += channels;
  }
}

}  // namespace glnet::reference
