#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace glnet::cpu {

void relu(const Relu& op, const Context& context) {
  with_type(op.kName, op.x.dtype, [&](auto t) {
    using T = decltype(t);
    map_elements(
        context.threads, op.x.size(), op.y.as<T>(), [](float x) { return x < 0 ? 0.0f : x; },
        op.x.as<const T>());
  });
}

}  // namespace glnet::cpu
