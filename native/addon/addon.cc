// The module: the class Device, what it can do, and what the machine is.

#include <napi.h>

#include "addon/device_object.h"
#include "cpu/machine.h"

namespace glnet::addon {
namespace {

/// { ops: { conv2d: '{ x: Handle; ... }', ... } }: what binding.d.ts is made from.
Napi::Value describe_ops(const Napi::CallbackInfo& info) {
  Napi::Object ops = Napi::Object::New(info.Env());
#define GLNET_DESCRIBE(Type, member) ops.Set(#member, type_name<Type>());
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

Napi::Object init(Napi::Env env, Napi::Object exports) {
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
  exports.Set("machine", Napi::Function::New(env, machine, "machine"));
  return exports;
}

}  // namespace

NODE_API_MODULE(glnet, init)

}  // namespace glnet::addon
