#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace glnet::cpu {

void relu_backward(const ReluBackward& op, const Context& context) {
  map_elements(
      context.threads, op.dy.size(), op.dx.as<float>(), [](float dy, float y) { return y <= 0 ? 0.0f : dy; },
      op.dy.as<const float>(), op.y.as<const float>());
}

}  // namespace glnet::cpu
