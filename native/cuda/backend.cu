// The table of the device, and the one symbol that its library exports.
#include "core/library.h"
#include "cuda/common.cuh"
#include "cuda/engine.h"

namespace glnet::cuda {
namespace {

const Backend& backend() {
  static const Backend table = [] {
    Backend b{.name = kKind,
              .open = open_device,
              .count = device_count,
#define GLNET_ENTRY(Type, member) .member = {},
              GLNET_OPS(GLNET_ENTRY)
#undef GLNET_ENTRY
    };
    fill(b);
    return b;
  }();
  return table;
}

}  // namespace
}  // namespace glnet::cuda

extern "C" __attribute__((visibility("default"))) const glnet::Backend* glnet_backend(const char* wanted,
                                                                                      const char** own) {
  *own = glnet::fingerprint().c_str();
  return glnet::fingerprint() == wanted ? &glnet::cuda::backend() : nullptr;
}
