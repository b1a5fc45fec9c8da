#include "core/backend.h"

#include <cstdlib>

#include "reference/kernels.h"

namespace glnet {

const Backend& reference_backend() {
  static const Backend backend = {
      .name = "reference",
      .memory = {[](size_t bytes) { return std::aligned_alloc(64, (bytes + 63) / 64 * 64); },
                 [](void* data, size_t) { std::free(data); }},
#define GLNET_ENTRY(Type, name) .name = {reference::name, nullptr},
      GLNET_OPS(GLNET_ENTRY)
#undef GLNET_ENTRY
  };
  return backend;
}

}  // namespace glnet
