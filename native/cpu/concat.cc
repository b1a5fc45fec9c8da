#include <cstring>

#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {

void concat(const Concat& op, const Context& context) {
  const size_t size = size_of(op.y.dtype), out = static_cast<size_t>(op.y.dim(3)) * size;
  parallel_ranges(context.threads, op.y.size() / op.y.dim(3), [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      auto* to = op.y.as<std::byte>() + i * out;
      for (const In& x : op.inputs) {
        const size_t bytes = static_cast<size_t>(x.dim(3)) * size;
        std::memcpy(to, x.as<const std::byte>() + i * bytes, bytes);
        to += bytes;
      }
    }
  });
}

}  // namespace glnet::cpu
