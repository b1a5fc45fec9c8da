#include "core/backend.h"

#include <cstdlib>

#include "cuda/kernels.h"

namespace glnet {

const Backend& emulator_backend() {
  static const Backend backend = [] {
    // From malloc, so that AddressSanitizer sees what kernels touch outside a segment.
    Backend b{.name = "emulator",
              .memory = {[](size_t bytes) { return std::aligned_alloc(64, (bytes + 63) / 64 * 64); },
                         [](void* data, size_t) { std::free(data); }},
#define GLNET_ENTRY(Type, name) .name = {},
              GLNET_OPS(GLNET_ENTRY)
#undef GLNET_ENTRY
    };
    cuda::fill(b);
    return b;
  }();
  return backend;
}

}  // namespace glnet
