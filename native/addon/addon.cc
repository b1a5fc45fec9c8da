// The module: the class Device, what it can do, and what the machine is.

#include <napi.h>
#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "addon/device_object.h"
#include "cpu/machine.h"
#include "cpu/product.h"

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

/// A product in double precision, on a thread of Node's pool.
class Product final : public Napi::AsyncWorker {
 public:
  Product(Napi::Float64Array a, Napi::Float32Array b, Napi::Float64Array c, int64_t inner)
      : AsyncWorker(a.Env()),
        promise_(Napi::Promise::Deferred::New(a.Env())),
        inner_(inner),
        rows_(static_cast<int64_t>(a.ElementLength()) / inner),
        columns_(static_cast<int64_t>(b.ElementLength()) / inner),
        a_(a.Data()),
        b_(b.Data()),
        c_(c.Data()) {
    kept_ = Napi::Persistent(Napi::Object::New(a.Env()));
    kept_.Set("a", a), kept_.Set("b", b), kept_.Set("c", c);
  }

  Napi::Promise promise() const { return promise_.Promise(); }

 private:
  void Execute() override {
    const int threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    cpu::multiply_in_double(threads, rows_, inner_, columns_, a_, b_, c_);
    // This thread's team would stay: with more threads of OpenMP's than cores, all of them sleep between
    // loops rather than spin, those of devices too.
    omp_pause_resource_all(omp_pause_soft);
  }
  void OnOK() override { promise_.Resolve(kept_.Get("c")); }
  void OnError(const Napi::Error& error) override { promise_.Reject(error.Value()); }

  Napi::Promise::Deferred promise_;
  Napi::ObjectReference kept_;  ///< so that nothing is collected meanwhile
  int64_t inner_, rows_, columns_;
  const double* a_;
  const float* b_;
  double* c_;
};

/// multiplyInDouble(a, b, inner): a [rows, inner], b [inner, columns].
Napi::Value multiply_in_double(const Napi::CallbackInfo& info) {
  const auto a = info[0].As<Napi::Float64Array>();
  const auto b = info[1].As<Napi::Float32Array>();
  const auto inner = static_cast<size_t>(info[2].ToNumber().Int64Value());
  if (inner == 0 || a.ElementLength() % inner != 0 || b.ElementLength() % inner != 0) {
    throw Napi::RangeError::New(info.Env(),
                                "multiplyInDouble: a and b are no matrices with this inner dimension");
  }
  const auto c = Napi::Float64Array::New(info.Env(), a.ElementLength() / inner * (b.ElementLength() / inner));
  auto* product = new Product(a, b, c, static_cast<int64_t>(inner));
  product->Queue();
  return product->promise();
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
  exports.Set("multiplyInDouble", Napi::Function::New(env, multiply_in_double, "multiplyInDouble"));
  exports.Set("machine", Napi::Function::New(env, machine, "machine"));
  return exports;
}

}  // namespace

NODE_API_MODULE(glnet, init)

}  // namespace glnet::addon
