// The JavaScript class Device: tensors by handle, ops by name, promises for what is computed.
#pragma once

#include <napi.h>

#include <memory>
#include <set>
#include <unordered_map>

#include "addon/arguments.h"
#include "core/device.h"

namespace glnet::addon {

class DeviceObject;

/// What belongs to one JavaScript environment: the main thread's or a worker's.
struct Environment {
  bool ending = false;  ///< no more JavaScript runs, and references go by themselves
  std::set<DeviceObject*> devices;
};

/// The backend of a kind of device, loaded if it lives in a library of its own. Throws if it is not there.
const Backend& backend_of(const std::string& kind);

/// A C++ error as a JavaScript one with `code`.
Napi::Error to_js(Napi::Env env, std::exception_ptr error);

class DeviceObject : public Napi::ObjectWrap<DeviceObject>, private Handles {
 public:
  static Napi::Function define(Napi::Env env);

  /// new Device({ kind, index, threads, memoryLimit })
  explicit DeviceObject(const Napi::CallbackInfo& info);
  ~DeviceObject() override;

  /// Whether the device works in a queue of its own, not on the stream's thread.
  bool has_queue() const { return device_ && device_->engine().queue(); }
  /// Stops the stream and forgets all tensors. With `reject`, promises that wait are told.
  void close(bool reject);

 private:
  /// Something that JavaScript waits for, or that must live until the stream has passed it.
  struct Pending {
    std::unique_ptr<Napi::Promise::Deferred> promise;
    Napi::ObjectReference kept;
  };
  struct Arrival {
    uint64_t pending;
    std::exception_ptr error;
  };
  /// Outlives the device where arrivals are still queued for it.
  struct Link {
    DeviceObject* self;
  };
  static void arrive(Napi::Env env, Napi::Function, Link* link, Arrival* arrival);
  using Notifier = Napi::TypedThreadSafeFunction<Link, Arrival, &DeviceObject::arrive>;

  Napi::Value run(const Napi::CallbackInfo& info);
  Napi::Value upload(const Napi::CallbackInfo& info);
  Napi::Value weight(const Napi::CallbackInfo& info);
  Napi::Value unload(const Napi::CallbackInfo& info);
  Napi::Value zeros(const Napi::CallbackInfo& info);
  Napi::Value view(const Napi::CallbackInfo& info);
  Napi::Value download(const Napi::CallbackInfo& info);
  Napi::Value synchronize(const Napi::CallbackInfo& info);
  Napi::Value release(const Napi::CallbackInfo& info);
  Napi::Value memory(const Napi::CallbackInfo& info);
  Napi::Value trim(const Napi::CallbackInfo& info);
  Napi::Value reset_peak(const Napi::CallbackInfo& info);
  Napi::Value close_js(const Napi::CallbackInfo& info);
  Napi::Value describe_js(const Napi::CallbackInfo& info);
  Napi::Value multiply_adds(const Napi::CallbackInfo& info);
  Napi::Value begin_graph(const Napi::CallbackInfo& info);
  Napi::Value end_graph(const Napi::CallbackInfo& info);
  Napi::Value drop_graph(const Napi::CallbackInfo& info);
  Napi::Value graph_launches(const Napi::CallbackInfo& info);
  Napi::Value begin_plan(const Napi::CallbackInfo& info);
  Napi::Value plan_release(const Napi::CallbackInfo& info);
  Napi::Value end_plan(const Napi::CallbackInfo& info);
  Napi::Value start_trace(const Napi::CallbackInfo& info);
  Napi::Value stop_trace(const Napi::CallbackInfo& info);

  template <class Body>
  Napi::Value guarded(const Napi::CallbackInfo& info, Body&& body);
  template <class Op>
  void submit(double* numbers, size_t count);
  uint64_t expect(Napi::Object kept, bool promise);
  Napi::Value promise_of(uint64_t pending);
  /// Returns a new handle.
  double keep(Tensor tensor);
  void notify(uint64_t pending, std::exception_ptr error);
  const Tensor& find(double handle, const char* op, const char* name) const override;

  Environment& environment_;
  std::unique_ptr<Device> device_;
  Link* link_ = nullptr;
  Notifier notifier_;
  std::unordered_map<uint64_t, Tensor> tensors_;
  std::unordered_map<uint64_t, Pending> pending_;
  uint64_t next_pending_ = 1;
  uint64_t first_planned_ = 0;  ///< handles from here on are a plan's
  int promises_ = 0;
};

}  // namespace glnet::addon
