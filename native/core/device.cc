#include "core/device.h"

#include <algorithm>
#include <thread>

namespace glnet {
namespace {

int thread_count(int asked) {
  return asked > 0 ? asked : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

Device::Device(const Backend& backend, const Options& options)
    : backend_(backend),
      threads_(thread_count(options.threads)),
      engine_(backend.open({options.index, threads_})),
      stream_(engine_),
      pool_(std::make_shared<Pool>(engine_, [this] { stream_.drain(); }, options.guarded)) {
  pool_->set_limit(options.memory_limit);
}

void Device::upload(const View& to, const void* from) {
  // Even after an error: whoever waits to reuse `from` is told by what follows.
  stream_.always([this, to = to.data, from, bytes = to.bytes()] { engine_->upload(to, from, bytes); });
}

void Device::download(void* to, const View& from) {
  stream_.enqueue([this, to, from = from.data, bytes = from.bytes()] { engine_->download(to, from, bytes); });
}

void Device::clear(const View& view) {
  stream_.enqueue([this, to = view.data, bytes = view.bytes()] { engine_->fill(to, 0, bytes); });
}

Tensor Device::allocate(const Shape& shape, DType dtype, const char* purpose) {
  const size_t bytes = static_cast<size_t>(element_count(shape)) * size_of(dtype);
  return {std::make_shared<Storage>(pool_, bytes, purpose), shape, dtype};
}

Tensor Device::on_memory_of(const View& view, const Shape& shape) {
  view.storage->packed.clear();
  const auto offset =
      static_cast<const std::byte*>(view.data) - static_cast<const std::byte*>(view.storage->data());
  return {view.storage->shared_from_this(), shape, view.dtype, static_cast<size_t>(offset)};
}

void Device::Preparation::workspace(size_t bytes) {
  if (!bytes) return;
  scratch_ = std::make_unique<Storage>(device_.pool_, bytes, op_);
  context.workspace = scratch_->data();
}

void Device::Preparation::pack(const View& weight, const std::string& layout, size_t bytes, Convert convert) {
  check(weight.data == weight.storage->data(), op_, ": a part of a tensor cannot be a weight");
  auto& copy = weight.storage->packed[layout];
  if (!copy) {
    copy = std::make_unique<Storage>(device_.pool_, bytes, op_);
    // Even after an error: the copy is kept, and would not be made again.
    device_.stream_.always(
        [&device = device_, convert = std::move(convert), context = context, weight, to = copy->data()] {
          const auto run = [&] { convert(context, weight.data, to); };
          if (!device.trace_.on()) return run();
          std::ostringstream shape;
          shape << "weight " << weight.shape;
          device.trace_.record(*device.engine_, {"pack", shape.str(), 0, 0, 0}, run);
        });
  }
  context.packed.push_back(copy->data());
}

}  // namespace glnet
