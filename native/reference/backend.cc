#include "core/backend.h"

#include "reference/kernels.h"

namespace glnet {

const Backend& reference_backend() {
  static const Backend backend = {.name = "reference",
                                  .open = open_host,
                                  .count = [] { return 1; },
#define GLNET_ENTRY(Type, name) .name = {reference::name, nullptr},
                                  GLNET_OPS(GLNET_ENTRY)
#undef GLNET_ENTRY
  };
  return backend;
}

}  // namespace glnet
