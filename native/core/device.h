// A device: a backend, its pool and its stream. All members are for one submitting thread.
#pragma once

#include <map>
#include <memory>

#include "core/backend.h"
#include "core/plan.h"
#include "core/stream.h"
#include "core/tensor.h"
#include "core/trace.h"

namespace glnet {

class Device {
 public:
  struct Options {
    int index = 0;            ///< which of the backend's devices
    int threads = 0;          ///< that compute on the host; 0 means one for each core
    size_t memory_limit = 0;  ///< of the pool, in bytes; 0 means none
    bool guarded = false;     ///< see Pool
  };
  /// Throws if the backend has no such device.
  Device(const Backend& backend, const Options& options);
  /// Stops the stream first: nothing may run when the pool goes.
  ~Device() { stream_.stop(); }

  const Backend& backend() const { return backend_; }
  int threads() const { return threads_; }
  Engine& engine() { return *engine_; }
  Pool& pool() { return *pool_; }
  Stream& stream() { return stream_; }
  Trace& trace() { return trace_; }
  /// Of all ops that were submitted.
  double multiply_adds() const { return multiply_adds_; }

  Tensor allocate(const Shape& shape, DType dtype, const char* purpose);
  /// A weight that stays in its file until a kernel wants it, and is then read in the layout that it wants.
  Tensor weight(const Shape& shape, FileWeight values);
  /// Brings a weight's plain values to the device, if they are not there.
  void load(Storage& storage);
  /// Frees what can be made again: a weight's packed copies, and plain values that a source has.
  void unload(Storage& storage);
  /// A tensor on another's memory, whose values are to be overwritten.
  Tensor on_memory_of(const View& view, const Shape& shape);

  /// Queues a copy to a tensor; `from` must stay until the stream has passed it.
  void upload(const View& to, const void* from);
  /// Queues a copy from a tensor; it has arrived when the stream has passed it.
  void download(void* to, const View& from);
  /// Queues the zeroing of a tensor.
  void clear(const View& view);

  /// Checks the op, allocates its outputs and queues its kernel. The tensors may be dropped right after.
  template <class Op>
  std::vector<Tensor> submit(Op op);

  /// Work that is submitted from here to `end_graph` comes to the device in one piece. What was made of the
  /// last graph with this `id` is updated with it. Where the engine has no graphs, and while work is traced
  /// or planned, it comes as ever.
  void begin_graph(uint64_t id);
  void end_graph();
  void drop_graph(uint64_t id);

  /// From here on nothing runs and no memory is taken: work is only planned, as in core/plan.h. Under a limit
  /// of the pool's (0: none); where it is passed, the plan goes on all the same, and `reserved` tells.
  void begin_plan(size_t limit);
  /// The counters that the pool would have now; peaks are those since the beginning. Tensors that were made
  /// since must not be used any more.
  PoolCounters end_plan();
  Plan* plan() { return plan_.get(); }

 private:
  class Preparation;

  /// As `load`, of an op's input.
  void load(View& view) {
    if (view.data || !view.storage) return;
    load(*view.storage);
    view.data = data_of(*view.storage);
  }
  /// Of which memory is taken.
  const std::shared_ptr<Pool>& memory() const { return plan_ ? plan_->pool() : pool_; }
  void* data_of(const Storage& storage) const { return plan_ ? plan_->data(storage) : storage.data(); }
  std::unique_ptr<Storage>& copy_of(Storage& storage, const std::string& layout) {
    return plan_ ? plan_->copy(storage, layout) : storage.packed[layout];
  }
  void drop_copies(Storage& storage) {
    if (plan_) return plan_->drop_copies(storage);
    storage.packed.clear();
  }
  /// A view that was made outside the plan, as it is in it.
  void adopt(View& view) const;

  const Backend& backend_;
  int threads_;
  std::shared_ptr<Engine> engine_;
  std::map<uint64_t, std::shared_ptr<Graph>> graphs_;
  bool in_graph_ = false;
  Trace trace_;
  double multiply_adds_ = 0;
  Stream stream_;
  std::shared_ptr<Pool> pool_;
  std::unique_ptr<Plan> plan_;
};

class Device::Preparation final : public Prepare {
 public:
  Preparation(Device& device, const char* op) : device_(device), op_(op) {
    context.threads = device.threads_;
    context.stream = device.engine_->queue();
  }

  int threads() const override { return device_.threads_; }
  void workspace(size_t bytes) override;
  void pack(const View& weight, const std::string& layout, size_t bytes, Convert convert) override;
  /// Whether the kernel reads a packed copy of this.
  bool packs(const View& weight) const { return plain_.contains(weight.storage); }

  Context context;

 private:
  Device& device_;
  const char* op_;
  std::unique_ptr<Storage> scratch_;
  /// Of each weight that is packed, its plain values where the weight has none: gone once the op is queued.
  std::map<const Storage*, std::unique_ptr<Storage>> plain_;
};

template <class Op>
std::vector<Tensor> Device::submit(Op op) {
  if (plan_) for_each_view(op, [&](const char*, View& view) { adopt(view); });
  op.infer();
  const Kernel<Op>& kernel = kernel_of<Op>(backend_);
  if (!kernel.run)
    fail(ErrorCode::native, Op::kName, ": the device '", backend_.name, "' has no such kernel");
  std::vector<Tensor> outputs;
  for_each_view(op, [&](const char*, auto& view) {
    using Kind = std::remove_cvref_t<decltype(view)>;
    if constexpr (std::is_same_v<Kind, Out>) {
      const View* reused = nullptr;
      if constexpr (requires { op.reused(); }) reused = op.reused();
      outputs.push_back(reused ? on_memory_of(*reused, view.shape)
                               : allocate(view.shape, view.dtype, Op::kName));
      static_cast<View&>(view) = outputs.back().view();
    } else if constexpr (std::is_same_v<Kind, InOut>) {
      load(view);
      // Copies in other layouts hold the old values. What is queued and reads them still finds them.
      if (view.storage) drop_copies(*view.storage);
    }
  });
  // The scratch memory goes back to the pool as soon as the kernel is queued: the stream is in order.
  Preparation preparation(*this, Op::kName);
  if (kernel.prepare) kernel.prepare(op, preparation);
  for_each_view(op, [&](const char*, View& view) {
    if (!preparation.packs(view)) load(view);
  });
  if (plan_) return outputs;
  multiply_adds_ += op.multiply_adds();
  if (trace_.on()) {
    std::ostringstream shapes;
    for_each_view(op, [&](const char* name, const View& view) {
      if (view.storage) shapes << (shapes.tellp() ? ", " : "") << name << ' ' << view.shape;
    });
    Trace::Event event{Op::kName, shapes.str(), 0, 0, op.multiply_adds()};
    stream_.enqueue([this, event = std::move(event), run = kernel.run, op = std::move(op),
                     context = std::move(preparation.context)] {
      trace_.record(*engine_, event, [&] { run(op, context); });
    });
  } else {
    stream_.enqueue([run = kernel.run, op = std::move(op), context = std::move(preparation.context)] {
      run(op, context);
    });
  }
  return outputs;
}

}  // namespace glnet
