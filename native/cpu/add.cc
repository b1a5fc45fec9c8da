#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace glnet::cpu {

void add(const Add& op, const Context& context) {
  with_type(op.kName, op.a.dtype, [&](auto t) {
    using T = decltype(t);
    map_elements(
        context.threads, op.a.size(), op.y.as<T>(), [](float a, float b) { return a + b; },
        op.a.as<const T>(), op.b.as<const T>());
  });
}

}  // namespace glnet::cpu
