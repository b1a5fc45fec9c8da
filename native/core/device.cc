#include "core/device.h"

#include <algorithm>
#include <thread>
#include <utility>

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
  if (plan_) return;
  // Even after an error: whoever waits to reuse `from` is told by what follows.
  stream_.always([this, to = to.data, from, bytes = to.bytes()] { engine_->upload(to, from, bytes); });
}

void Device::download(void* to, const View& from) {
  check(!plan_, "a plan has no values to read");
  stream_.enqueue([this, to, from = from.data, bytes = from.bytes()] { engine_->download(to, from, bytes); });
}

void Device::clear(const View& view) {
  if (plan_) return;
  stream_.enqueue([this, to = view.data, bytes = view.bytes()] { engine_->fill(to, 0, bytes); });
}

Tensor Device::allocate(const Shape& shape, DType dtype, const char* purpose) {
  const size_t bytes = static_cast<size_t>(element_count(shape)) * size_of(dtype);
  return {std::make_shared<Storage>(memory(), bytes, purpose), shape, dtype};
}

Tensor Device::weight(const Shape& shape, FileWeight values) {
  values.elements = element_count(shape);
  const size_t bytes = static_cast<size_t>(values.elements) * size_of(values.dtype);
  return {std::make_shared<Storage>(memory(), bytes, values.source()), shape, values.dtype};
}

void Device::load(Storage& storage) {
  if (plan_) return plan_->load(storage);
  if (storage.data()) return;
  storage.take("a weight");
  // Even after an error, as all that is kept.
  stream_.always([this, source = storage.source(), to = storage.data()] { source(*engine_, to); });
}

void Device::unload(Storage& storage) {
  if (plan_) return plan_->unload(storage);
  storage.unload();
}

Tensor Device::on_memory_of(const View& view, const Shape& shape) {
  check(view.data, "a weight that stays in its file cannot be overwritten");
  drop_copies(*view.storage);
  const auto offset =
      static_cast<const std::byte*>(view.data) - static_cast<const std::byte*>(data_of(*view.storage));
  return {view.storage->shared_from_this(), shape, view.dtype, static_cast<size_t>(offset)};
}

void Device::begin_graph(uint64_t id) {
  check(!in_graph_, "a graph within a graph");
  if (plan_ || trace_.on()) return;
  auto& graph = graphs_[id];
  if (!graph) graph = engine_->make_graph();
  if (!graph) return;
  in_graph_ = true;
  stream_.enqueue([this, graph] { engine_->begin(*graph); });
}

void Device::end_graph() {
  // Even after an error, or nobody could wait for it.
  if (std::exchange(in_graph_, false)) stream_.always([this] { engine_->end(); });
}

void Device::drop_graph(uint64_t id) {
  end_graph();
  const auto graph = graphs_.find(id);
  if (graph == graphs_.end()) return;
  // It goes on the stream's thread, when what was queued of it is.
  stream_.always([kept = std::move(graph->second)] {});
  graphs_.erase(graph);
}

void Device::begin_plan(size_t limit) {
  check(!plan_, "a plan within a plan");
  plan_ = std::make_unique<Plan>(*pool_);
  plan_->pool()->set_limit(limit);
}

PoolCounters Device::end_plan() {
  check(plan_ != nullptr, "there is no plan to end");
  return std::exchange(plan_, nullptr)->pool()->counters();
}

void Device::adopt(View& view) const {
  if (!view.storage) return;
  const auto offset = view.data ? static_cast<const std::byte*>(view.data) -
                                      static_cast<const std::byte*>(view.storage->data())
                                : 0;
  auto* data = static_cast<std::byte*>(plan_->data(*view.storage));
  view.data = data ? data + offset : nullptr;
}

void Device::Preparation::workspace(size_t bytes) {
  if (!bytes) return;
  scratch_ = std::make_unique<Storage>(device_.memory(), bytes, op_);
  context.workspace = scratch_->data();
}

void Device::Preparation::pack(const View& weight, const std::string& layout, size_t bytes, Convert convert) {
  check(weight.data == device_.data_of(*weight.storage), op_, ": a part of a tensor cannot be a weight");
  auto& plain = plain_[weight.storage];
  auto& copy = device_.copy_of(*weight.storage, layout);
  if (!copy) {
    auto made = std::make_unique<Storage>(device_.memory(), bytes, op_, Lifetime::lasting);
    if (!weight.data && !plain) {
      plain = std::make_unique<Storage>(device_.memory(), weight.storage->bytes(), weight.storage->source());
      device_.load(*plain);
    }
    copy = std::move(made);
    // Even after an error: the copy is kept, and would not be made again.
    if (device_.plan_) return context.packed.push_back(copy->data());
    device_.stream_.always([&device = device_, convert = std::move(convert), context = context,
                            shape = weight.shape, from = plain ? plain->data() : weight.data,
                            to = copy->data()] {
      const auto run = [&] { convert(context, from, to); };
      if (!device.trace_.on()) return run();
      std::ostringstream shapes;
      shapes << "weight " << shape;
      device.trace_.record(*device.engine_, {"pack", shapes.str(), 0, 0, 0}, run);
    });
  }
  context.packed.push_back(copy->data());
}

}  // namespace glnet
