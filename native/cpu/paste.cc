#include <cstring>

#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {

void paste(const Paste& op, const Context& context) {
  const size_t pixel = static_cast<size_t>(op.x.dim(3)) * size_of(op.x.dtype);
  const size_t bytes = static_cast<size_t>(op.x.dim(2)) * pixel;
  parallel_ranges(context.threads, op.x.dim(0) * op.x.dim(1), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / op.x.dim(1), row = op.top + i % op.x.dim(1);
      const int64_t to = (n * op.y.dim(1) + row) * op.y.dim(2) + op.left;
      std::memcpy(op.y.as<std::byte>() + static_cast<size_t>(to) * pixel,
                  op.x.as<const std::byte>() + static_cast<size_t>(i) * bytes, bytes);
    }
  });
}

}  // namespace glnet::cpu
