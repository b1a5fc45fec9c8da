#include "core/device.h"

#include <omp.h>

#include <algorithm>
#include <thread>

namespace glnet {
namespace {

int thread_count(int asked) {
  return asked > 0 ? asked : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

Device::Device(const Backend& backend, int threads, size_t memory_limit, bool guarded)
    : backend_(backend),
      threads_(thread_count(threads)),
      stream_([n = threads_] { omp_set_num_threads(n); }),
      pool_(std::make_shared<Pool>(backend.memory, [this] { stream_.drain(); }, guarded)) {
  pool_->set_limit(memory_limit);
}

Tensor Device::allocate(const Shape& shape, DType dtype, const char* purpose) {
  const size_t bytes = static_cast<size_t>(element_count(shape)) * size_of(dtype);
  return {std::make_shared<Storage>(pool_, bytes, purpose), shape, dtype};
}

void Device::Preparation::workspace(size_t bytes) {
  if (!bytes) return;
  scratch_ = std::make_unique<Storage>(device_.pool_, bytes, op_);
  context.workspace = scratch_->data();
}

void Device::Preparation::pack(const View& weight, const std::string& layout, size_t bytes,
                               std::function<void(const void*, void*)> convert) {
  auto& copy = weight.storage->packed[layout];
  if (!copy) {
    copy = std::make_unique<Storage>(device_.pool_, bytes, op_);
    // Even after an error: the copy is kept, and would not be made again.
    device_.stream_.always(
        [convert = std::move(convert), from = weight.data, to = copy->data()] { convert(from, to); });
  }
  context.packed.push_back(copy->data());
}

}  // namespace glnet
