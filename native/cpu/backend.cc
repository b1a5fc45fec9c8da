#include "core/backend.h"

#include <sys/mman.h>

#include "cpu/kernels.h"

namespace glnet {
namespace {

// Straight from the system, so that what the pool gives back is really gone, and in huge pages where it may.
void* allocate(size_t bytes) {
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  madvise(data, bytes, MADV_HUGEPAGE);
  return data;
}

void release(void* data, size_t bytes) {
  munmap(data, bytes);
}

}  // namespace

const Backend& cpu_backend() {
  static const Backend backend = [] {
    Backend b{.name = "cpu",
              .memory = {allocate, release},
#define GLNET_ENTRY(Type, name) .name = {cpu::name, nullptr},
              GLNET_OPS(GLNET_ENTRY)
#undef GLNET_ENTRY
    };
    b.conv2d.prepare = cpu::prepare_conv2d;
    b.aggregate_conv.prepare = cpu::prepare_aggregate_conv;
    b.focal_loss.prepare = cpu::prepare_focal_loss;
    b.triangle_resize.prepare = cpu::prepare_triangle_resize;
    return b;
  }();
  return backend;
}

}  // namespace glnet
