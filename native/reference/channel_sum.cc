#include "reference/kernels.h"

namespace glnet::reference {

void channel_sum(const ChannelSum& op, const Context&) {
  const int64_t channels = op.x.dim(3);
  for (int64_t c = 0; c < channels; ++c) {
    double sum = load(op.sum, c);
    for (int64_t i = 0; i < op.pixels(); ++i) sum += load(op.x, i * channels + c);
    store(op.sum, c, sum);
  }
}

}  // namespace glnet::reference
