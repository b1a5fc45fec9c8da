#include <cstring>

#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {

void slice(const Slice& op, const Context& context) {
  const size_t size = size_of(op.x.dtype), in = static_cast<size_t>(op.x.dim(3)) * size,
               out = static_cast<size_t>(op.count) * size;
  const auto* from = op.x.as<const std::byte>() + static_cast<size_t>(op.first) * size;
  parallel_ranges(context.threads, op.x.size() / op.x.dim(3), [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      std::memcpy(op.y.as<std::byte>() + i * out, from + i * in, out);
    }
  });
}

}  // namespace glnet::cpu
