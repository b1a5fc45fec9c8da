// The module: the class Device, what it can do, and what the machine is.

#include <napi.h>
#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <thread>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "addon/device_object.h"
#include "cpu/compose.h"
#include "cpu/machine.h"

namespace glnet::addon {
namespace {

/// describeOps(): the ops in the order of their numbers, and how their arguments are written. binding.d.ts is
/// made from it, too.
Napi::Value describe_ops(const Napi::CallbackInfo& info) {
  Napi::Object ops = Napi::Object::New(info.Env());
#define GLNET_DESCRIBE(Type, member) ops.Set(#member, layout_of<Type>(info.Env()));
  GLNET_OPS(GLNET_DESCRIBE)
#undef GLNET_DESCRIBE
  return ops;
}

Napi::Value machine(const Napi::CallbackInfo& info) {
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("oneDNN", cpu::onednn_version());
  result.Set("isa", cpu::onednn_isa());
  result.Set("bfloat16", cpu::has_bfloat16());
  return result;
}

/// deviceCount(kind): how many devices of a kind there are. Throws if there are none, saying why.
Napi::Value device_count(const Napi::CallbackInfo& info) {
  try {
    return Napi::Number::New(info.Env(), backend_of(info[0].ToString()).count());
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_js(info.Env(), std::current_exception());
  }
}

/// A ComposeKernel, on a thread of Node's pool.
class Composition final : public Napi::AsyncWorker {
 public:
  Composition(Napi::Env env, const cpu::ComposeKernel& work, std::initializer_list<Napi::Value> arrays)
      : AsyncWorker(env), promise_(Napi::Promise::Deferred::New(env)), work_(work) {
    kept_ = Napi::Persistent(Napi::Object::New(env));
    uint32_t count = 0;
    for (const Napi::Value& array : arrays) kept_.Set(count++, array);
  }

  Napi::Promise promise() const { return promise_.Promise(); }

 private:
  void Execute() override {
    work_.run(std::max(1, static_cast<int>(std::thread::hardware_concurrency())));
    // This thread's team would stay: with more threads of OpenMP's than cores, all of them sleep between
    // loops rather than spin, those of devices too.
    omp_pause_resource_all(omp_pause_soft);
  }
  void OnOK() override { promise_.Resolve(Env().Undefined()); }
  void OnError(const Napi::Error& error) override { promise_.Reject(error.Value()); }

  Napi::Promise::Deferred promise_;
  Napi::ObjectReference kept_;  ///< so that nothing is collected meanwhile
  cpu::ComposeKernel work_;
};

/// addThrough(to, from, [K, h, w, channels], weight, [M, C, plane], taps, kh): see cpu/compose.h.
Napi::Value add_through(const Napi::CallbackInfo& info) {
  auto to = info[0].As<Napi::Float64Array>();
  const auto from = info[1].As<Napi::Float64Array>();
  const auto weight = info[3].As<Napi::Float32Array>();
  const auto taps = info[5].As<Napi::Int32Array>();
  const auto size = [&](int argument, uint32_t i) {
    return info[argument].As<Napi::Array>().Get(i).ToNumber().Int64Value();
  };
  cpu::ComposeKernel work;
  work.outputs = size(2, 0), work.height = size(2, 1), work.width = size(2, 2), work.channels = size(2, 3);
  work.middle = size(4, 0), work.inputs = size(4, 1), work.plane = size(4, 2);
  work.kernel_height = std::max<int64_t>(1, info[6].ToNumber().Int64Value());
  work.kernel_width = static_cast<int64_t>(taps.ElementLength()) / work.kernel_height;
  work.from = from.Data(), work.weight = weight.Data(), work.taps = taps.Data(), work.to = to.Data();
  if (!work.fits(from.ElementLength(), weight.ElementLength(), taps.ElementLength(), to.ElementLength())) {
    throw Napi::RangeError::New(info.Env(), "addThrough: the arrays are not of these shapes");
  }
  auto* composition = new Composition(info.Env(), work, {to, from, weight, taps});
  composition->Queue();
  return composition->promise();
}

/// detach(buffers): their memory goes at once, and with it what other threads, such as decoders of images,
/// have left free between their blocks.
Napi::Value detach(const Napi::CallbackInfo& info) {
  const auto buffers = info[0].As<Napi::Array>();
  for (uint32_t i = 0; i < buffers.Length(); ++i) buffers.Get(i).As<Napi::ArrayBuffer>().Detach();
#ifdef __GLIBC__
  malloc_trim(0);
#endif
  return info.Env().Undefined();
}

/// closeQueues(): stops the devices whose work goes on without this process's threads, before the process
/// exits.
Napi::Value close_queues(const Napi::CallbackInfo& info) {
  const auto& devices = info.Env().GetInstanceData<Environment>()->devices;
  const std::vector<DeviceObject*> all(devices.begin(), devices.end());
  for (DeviceObject* device : all) {
    if (device->has_queue()) device->close(false);
  }
  return info.Env().Undefined();
}

/// Lets large blocks of the heap, such as windows of images, go back to the system when they are freed. By
/// default glibc keeps up to 64 MiB of them in each thread's heap once a large one was freed. Not where the
/// user has set it.
void keep_heap_small() {
#ifdef __GLIBC__
  const char* tunables = std::getenv("GLIBC_TUNABLES");
  if (std::getenv("MALLOC_MMAP_THRESHOLD_") || (tunables && std::strstr(tunables, "glibc.malloc."))) return;
  mallopt(M_MMAP_THRESHOLD, 256 << 10);
  mallopt(M_TRIM_THRESHOLD, 1 << 20);
#endif
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  keep_heap_small();
  auto* environment = new Environment;
  env.SetInstanceData(environment);
  // Before the environment's objects go, and while no JavaScript runs: stop and join every stream.
  env.AddCleanupHook(
      [](Environment* e) {
        e->ending = true;
        while (!e->devices.empty()) (*e->devices.begin())->close(false);
      },
      environment);
  exports.Set("Device", DeviceObject::define(env));
  exports.Set("describeOps", Napi::Function::New(env, describe_ops, "describeOps"));
  exports.Set("deviceCount", Napi::Function::New(env, device_count, "deviceCount"));
  exports.Set("closeQueues", Napi::Function::New(env, close_queues, "closeQueues"));
  exports.Set("addThrough", Napi::Function::New(env, add_through, "addThrough"));
  exports.Set("detach", Napi::Function::New(env, detach, "detach"));
  exports.Set("machine", Napi::Function::New(env, machine, "machine"));
  return exports;
}

}  // namespace

NODE_API_MODULE(glnet, init)

}  // namespace glnet::addon
