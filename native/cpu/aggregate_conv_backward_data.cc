#include "cpu/kernels.h"
#include "reference/kernels.h"

namespace glnet::cpu {

void aggregate_conv_backward_data(const AggregateConvBackwardData& op, const Context& context) {
  reference::aggregate_conv_backward_data(op, context);
}

}  // namespace glnet::cpu
