#include "cpu/kernels.h"
#include "reference/kernels.h"

namespace glnet::cpu {

void aggregate_conv_backward_weights(const AggregateConvBackwardWeights& op, const Context& context) {
  reference::aggregate_conv_backward_weights(op, context);
}

}  // namespace glnet::cpu
