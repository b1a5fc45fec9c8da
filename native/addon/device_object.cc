#include "addon/device_object.h"

#include <atomic>
#include <utility>

#include "core/library.h"

namespace glnet::addon {
namespace {

// Handles are never used twice, in no device and no thread: a stale or foreign one is always noticed.
std::atomic<uint64_t> next_handle{1};

const char* code_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return "ERR_INVALID_ARGUMENT";
    case ErrorCode::out_of_memory:
      return "ERR_OUT_OF_MEMORY";
    case ErrorCode::disposed:
      return "ERR_DISPOSED";
    case ErrorCode::native:
      return "ERR_NATIVE";
  }
  return "ERR_NATIVE";
}

Napi::Error with_code(Napi::Env env, const char* code, const char* message) {
  Napi::Error js = Napi::Error::New(env, message);
  js.Set("code", Napi::String::New(env, code));
  return js;
}

Shape read_shape(Napi::Value value) {
  check(value.IsArray(), "a shape must be an array of sizes");
  const auto array = value.As<Napi::Array>();
  Shape shape(array.Length());
  double elements = 1;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    shape[i] = array.Get(i).ToNumber().Int64Value();
    check(shape[i] > 0, "a shape must have positive sizes, and is ", shape);
    elements *= static_cast<double>(shape[i]);
  }
  check(elements < 9e15, "a tensor of shape ", shape, " is too large");
  return shape;
}

DType read_dtype(Napi::Value value) {
  const std::string text = value.ToString();
  int i = 0;
  for (const char* name : EnumNames<DType>::kNames) {
    if (text == name) return static_cast<DType>(i);
    ++i;
  }
  fail(ErrorCode::invalid_argument, "there is no dtype '", text, "'");
}

}  // namespace

const Backend& backend_of(const std::string& kind) {
  if (kind == "cpu") return cpu_backend();
  if (kind == "reference") return reference_backend();
  check(kind == "cuda" || kind == "emulator", "there is no device '", kind, "'");
  return load_backend(kind);
}

Napi::Error to_js(Napi::Env env, std::exception_ptr error) {
  try {
    std::rethrow_exception(std::move(error));
  } catch (const Error& e) {
    return with_code(env, code_of(e.code()), e.what());
  } catch (const std::exception& e) {
    return with_code(env, "ERR_NATIVE", e.what());
  }
}

template <class Body>
Napi::Value DeviceObject::guarded(const Napi::CallbackInfo& info, Body&& body) {
  try {
    if (!device_) fail(ErrorCode::disposed, "the device was closed");
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_js(info.Env(), std::current_exception());
  }
}

Napi::Function DeviceObject::define(Napi::Env env) {
  return DefineClass(env, "Device",
                     {
                         InstanceMethod<&DeviceObject::run>("run"),
                         InstanceMethod<&DeviceObject::upload>("upload"),
                         InstanceMethod<&DeviceObject::weight>("weight"),
                         InstanceMethod<&DeviceObject::unload>("unload"),
                         InstanceMethod<&DeviceObject::zeros>("zeros"),
                         InstanceMethod<&DeviceObject::view>("view"),
                         InstanceMethod<&DeviceObject::download>("download"),
                         InstanceMethod<&DeviceObject::synchronize>("synchronize"),
                         InstanceMethod<&DeviceObject::release>("release"),
                         InstanceMethod<&DeviceObject::memory>("memory"),
                         InstanceMethod<&DeviceObject::trim>("trim"),
                         InstanceMethod<&DeviceObject::reset_peak>("resetPeak"),
                         InstanceMethod<&DeviceObject::multiply_adds>("multiplyAdds"),
                         InstanceMethod<&DeviceObject::begin_graph>("beginGraph"),
                         InstanceMethod<&DeviceObject::end_graph>("endGraph"),
                         InstanceMethod<&DeviceObject::drop_graph>("dropGraph"),
                         InstanceMethod<&DeviceObject::graph_launches>("graphLaunches"),
                         InstanceMethod<&DeviceObject::begin_plan>("beginPlan"),
                         InstanceMethod<&DeviceObject::plan_release>("planRelease"),
                         InstanceMethod<&DeviceObject::end_plan>("endPlan"),
                         InstanceMethod<&DeviceObject::start_trace>("startTrace"),
                         InstanceMethod<&DeviceObject::stop_trace>("stopTrace"),
                         InstanceMethod<&DeviceObject::close_js>("close"),
                         InstanceMethod<&DeviceObject::describe_js>("description"),
                     });
}

DeviceObject::DeviceObject(const Napi::CallbackInfo& info)
    : ObjectWrap(info), environment_(*info.Env().GetInstanceData<Environment>()) {
  try {
    check(info.Length() > 0 && info[0].IsObject(), "Device: options must be an object");
    const auto options = info[0].As<Napi::Object>();
    const std::string kind = options.Get("kind").ToString();
    const auto number = [&](const char* name) {
      const Napi::Value value = options.Get(name);
      return value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : 0.0;
    };
    device_ = std::make_unique<Device>(
        backend_of(kind), Device::Options{.index = static_cast<int>(number("index")),
                                          .threads = static_cast<int>(number("threads")),
                                          .memory_limit = static_cast<size_t>(number("memoryLimit"))});
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_js(info.Env(), std::current_exception());
  }
  link_ = new Link{this};
  notifier_ =
      Notifier::New(info.Env(), "glnet", 0, 1, link_, [](Napi::Env, void*, Link* link) { delete link; });
  notifier_.Unref(info.Env());
  environment_.devices.insert(this);
}

DeviceObject::~DeviceObject() {
  close(false);
}

void DeviceObject::close(bool reject) {
  if (!device_) return;
  environment_.devices.erase(this);
  device_->stream().stop();
  for (auto& [id, pending] : pending_) {
    if (environment_.ending) pending.kept.SuppressDestruct();
    if (!reject || !pending.promise) continue;
    pending.promise->Reject(
        with_code(Env(), "ERR_DISPOSED", "the device was closed while it worked").Value());
  }
  pending_.clear();
  tensors_.clear();
  device_.reset();
  link_->self = nullptr;
  notifier_.Release();
}

uint64_t DeviceObject::expect(Napi::Object kept, bool promise) {
  const uint64_t id = next_pending_++;
  Pending& pending = pending_[id];
  if (!kept.IsEmpty()) pending.kept = Napi::Persistent(kept);
  if (promise) {
    pending.promise = std::make_unique<Napi::Promise::Deferred>(Env());
    // A promise that someone waits for keeps the process alive; nothing else does.
    if (promises_++ == 0) notifier_.Ref(Env());
  }
  return id;
}

Napi::Value DeviceObject::promise_of(uint64_t pending) {
  return pending_.at(pending).promise->Promise();
}

// On the stream's thread.
void DeviceObject::notify(uint64_t pending, std::exception_ptr error) {
  auto arrival = std::make_unique<Arrival>(Arrival{pending, std::move(error)});
  if (notifier_.NonBlockingCall(arrival.get()) == napi_ok) (void)arrival.release();
}

void DeviceObject::arrive(Napi::Env env, Napi::Function, Link* link, Arrival* data) {
  const std::unique_ptr<Arrival> arrival(data);
  if (static_cast<napi_env>(env) == nullptr || !link->self) return;
  DeviceObject* self = link->self;
  const auto entry = self->pending_.find(arrival->pending);
  if (entry == self->pending_.end()) return;
  const Pending pending = std::move(entry->second);
  self->pending_.erase(entry);
  if (!pending.promise) return;
  try {
    if (--self->promises_ == 0) self->notifier_.Unref(env);
    if (arrival->error) {
      pending.promise->Reject(to_js(env, arrival->error).Value());
    } else {
      pending.promise->Resolve(env.Undefined());
    }
  } catch (const Napi::Error&) {
    // A worker that is being terminated runs no more JavaScript; nobody is left to be told.
  }
}

const Tensor& DeviceObject::find(double handle, const char* op, const char* name) const {
  const auto entry = tensors_.find(handle > 0 ? static_cast<uint64_t>(handle) : 0);
  if (entry == tensors_.end()) {
    fail(ErrorCode::disposed, op, ": ", name, " was disposed of, or is a tensor of another device");
  }
  return entry->second;
}

double DeviceObject::keep(Tensor tensor) {
  const uint64_t handle = next_handle++;
  tensors_.emplace(handle, std::move(tensor));
  return static_cast<double>(handle);
}

template <class Op>
void DeviceObject::submit(double* numbers, size_t count) {
  Op op;
  Numbers arguments(numbers, count);
  read_fields(*this, Op::kName, arguments, op);
  std::vector<Tensor> outputs = device_->submit(std::move(op));
  check(1 + outputs.size() * (3 + Shape::kMostDimensions) <= count, Op::kName, ": no room for the outputs");
  *numbers++ = static_cast<double>(outputs.size());
  for (Tensor& output : outputs) {
    const Shape shape = output.shape;
    const DType dtype = output.dtype;
    *numbers++ = keep(std::move(output));
    *numbers++ = static_cast<double>(dtype);
    *numbers++ = static_cast<double>(shape.size());
    numbers = std::copy(shape.begin(), shape.end(), numbers);
  }
}

Napi::Value DeviceObject::run(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    static constexpr void (DeviceObject::* kSubmit[])(double*, size_t) = {
#define GLNET_SUBMIT(Type, member) &DeviceObject::submit<Type>,
        GLNET_OPS(GLNET_SUBMIT)
#undef GLNET_SUBMIT
    };
    const uint32_t op = info[0].ToNumber();
    check(op < std::size(kSubmit), "there is no op ", op);
    auto numbers = info[1].As<Napi::Float64Array>();
    (this->*kSubmit[op])(numbers.Data(), numbers.ElementLength());
    return info.Env().Undefined();
  });
}

Napi::Value DeviceObject::upload(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    check(info[0].IsTypedArray(), "upload: data must be a typed array");
    const auto data = info[0].As<Napi::TypedArray>();
    const Shape shape = read_shape(info[1]);
    const DType dtype = read_dtype(info[2]);
    Tensor tensor = {nullptr, shape, dtype};
    const size_t bytes = static_cast<size_t>(element_count(shape)) * size_of(dtype);
    check(data.ByteLength() == bytes, "upload: a ", name_of(dtype), " tensor of shape ", shape, " has ",
          bytes, " bytes, and the data ", data.ByteLength());
    tensor = device_->allocate(shape, dtype, "upload");
    if (device_->plan()) return Napi::Number::New(info.Env(), keep(std::move(tensor)));
    const auto* source = static_cast<const std::byte*>(data.ArrayBuffer().Data()) + data.ByteOffset();
    const uint64_t pending = expect(data, false);
    device_->upload(tensor.view(), source);
    // JavaScript's data may go when it was read, though it may not have arrived yet.
    device_->stream().always([this, pending] { notify(pending, nullptr); });
    return Napi::Number::New(info.Env(), keep(std::move(tensor)));
  });
}

Napi::Value DeviceObject::weight(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    check(info[0].IsObject(), "weight: its place in a file must be an object");
    const auto place = info[0].As<Napi::Object>();
    FileWeight values;
    values.file = WeightFile::of(place.Get("file").ToNumber().Int32Value());
    values.position = static_cast<uint64_t>(place.Get("position").ToNumber().Int64Value());
    values.stored = read_dtype(place.Get("dtype"));
    values.dtype = read_dtype(info[2]);
    if (const Napi::Value factors = place.Get("factors"); !factors.IsUndefined()) {
      check(factors.IsTypedArray() && factors.As<Napi::TypedArray>().TypedArrayType() == napi_float32_array,
            "weight: factors must be a Float32Array");
      const auto array = factors.As<Napi::Float32Array>();
      values.factors.assign(array.Data(), array.Data() + array.ElementLength());
    }
    return Napi::Number::New(info.Env(), keep(device_->weight(read_shape(info[1]), std::move(values))));
  });
}

Napi::Value DeviceObject::unload(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    device_->unload(*find(info[0].ToNumber(), "unload", "tensor").storage);
    return info.Env().Undefined();
  });
}

Napi::Value DeviceObject::zeros(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    Tensor tensor = device_->allocate(read_shape(info[0]), read_dtype(info[1]), "zeros");
    device_->clear(tensor.view());
    return Napi::Number::New(info.Env(), keep(std::move(tensor)));
  });
}

Napi::Value DeviceObject::view(const Napi::CallbackInfo& info) {
  return guarded(info, [&] {
    Tensor part = find(info[0].ToNumber(), "view", "tensor");
    check(!part.storage->source(), "view: a weight that stays in its file has no parts");
    const double first = info[1].ToNumber();
    const Shape shape = read_shape(info[2]);
    const int64_t all = element_count(part.shape), count = element_count(shape);
    check(first >= 0 && first + static_cast<double>(count) <= static_cast<double>(all), "view: ", count,
          " elements from ", first, " on are not in the tensor ", part.shape);
    part.offset += static_cast<size_t>(first) * size_of(part.dtype);
    part.shape = shape;
    return Napi::Number::New(info.Env(), keep(std::move(part)));
  });
}

Napi::Value DeviceObject::download(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    const Tensor& tensor = find(info[0].ToNumber(), "download", "tensor");
    check(!device_->plan(), "download: a plan has no values");
    device_->load(*tensor.storage);
    const View view = tensor.view();
    check(info[1].IsTypedArray(), "download: the target must be a typed array");
    const auto target = info[1].As<Napi::TypedArray>();
    check(target.ByteLength() == view.bytes(), "download: the tensor has ", view.bytes(),
          " bytes, and the target ", target.ByteLength());
    auto* data = static_cast<std::byte*>(target.ArrayBuffer().Data()) + target.ByteOffset();
    const uint64_t pending = expect(target, true);
    const Napi::Value promise = promise_of(pending);
    device_->download(data, view);
    device_->stream().observe(
        [this, pending](std::exception_ptr error) { notify(pending, std::move(error)); });
    return promise;
  });
}

Napi::Value DeviceObject::synchronize(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    const uint64_t pending = expect({}, true);
    const Napi::Value promise = promise_of(pending);
    device_->stream().observe(
        [this, pending](std::exception_ptr error) { notify(pending, std::move(error)); });
    return promise;
  });
}

Napi::Value DeviceObject::release(const Napi::CallbackInfo& info) {
  // After close() there is nothing left to release: not an error, so that disposal is idempotent.
  if (device_) tensors_.erase(static_cast<uint64_t>(info[0].ToNumber().Int64Value()));
  return info.Env().Undefined();
}

Napi::Value DeviceObject::memory(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    const PoolCounters counters = device_->pool().counters();
    Napi::Object result = Napi::Object::New(info.Env());
    result.Set("active", static_cast<double>(counters.active));
    result.Set("cached", static_cast<double>(counters.cached));
    result.Set("peak", static_cast<double>(counters.peak));
    result.Set("reserved", static_cast<double>(counters.reserved));
    result.Set("limit", static_cast<double>(counters.limit));
    result.Set("staging", static_cast<double>(device_->engine().staging_bytes()));
    result.Set("tensors", static_cast<double>(tensors_.size()));
    return result;
  });
}

Napi::Value DeviceObject::trim(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    (device_->plan() ? *device_->plan()->pool() : device_->pool()).trim();
    return info.Env().Undefined();
  });
}

Napi::Value DeviceObject::reset_peak(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    device_->pool().reset_peak();
    return info.Env().Undefined();
  });
}

Napi::Value DeviceObject::multiply_adds(const Napi::CallbackInfo& info) {
  return guarded(info,
                 [&]() -> Napi::Value { return Napi::Number::New(info.Env(), device_->multiply_adds()); });
}

Napi::Value DeviceObject::begin_graph(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    device_->begin_graph(static_cast<uint64_t>(info[0].ToNumber().Int64Value()));
    return info.Env().Undefined();
  });
}

Napi::Value DeviceObject::end_graph(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    device_->end_graph();
    return info.Env().Undefined();
  });
}

Napi::Value DeviceObject::drop_graph(const Napi::CallbackInfo& info) {
  // As `release`.
  if (device_) device_->drop_graph(static_cast<uint64_t>(info[0].ToNumber().Int64Value()));
  return info.Env().Undefined();
}

Napi::Value DeviceObject::graph_launches(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    return Napi::Number::New(info.Env(), static_cast<double>(device_->engine().graph_launches()));
  });
}

Napi::Value DeviceObject::begin_plan(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    device_->begin_plan(static_cast<size_t>(info[0].ToNumber().DoubleValue()));
    first_planned_ = next_handle;
    return info.Env().Undefined();
  });
}

Napi::Value DeviceObject::plan_release(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    const double handle = info[0].ToNumber();
    const Tensor& tensor = find(handle, "planRelease", "tensor");
    check(device_->plan() != nullptr, "planRelease: there is no plan");
    if (handle < static_cast<double>(first_planned_)) {
      device_->plan()->drop(*tensor.storage);
    } else {
      tensors_.erase(static_cast<uint64_t>(handle));
    }
    return info.Env().Undefined();
  });
}

Napi::Value DeviceObject::end_plan(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    std::erase_if(tensors_, [this](const auto& entry) { return entry.first >= first_planned_; });
    const PoolCounters counters = device_->end_plan();
    Napi::Object result = Napi::Object::New(info.Env());
    result.Set("peak", static_cast<double>(counters.peak));
    result.Set("reserved", static_cast<double>(counters.reserved));
    return result;
  });
}

Napi::Value DeviceObject::start_trace(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    device_->trace().start();
    return info.Env().Undefined();
  });
}

Napi::Value DeviceObject::stop_trace(const Napi::CallbackInfo& info) {
  return guarded(info, [&]() -> Napi::Value {
    const std::vector<Trace::Event> events = device_->trace().stop();
    Napi::Array result = Napi::Array::New(info.Env(), events.size());
    for (uint32_t i = 0; i < events.size(); ++i) {
      Napi::Object event = Napi::Object::New(info.Env());
      event.Set("op", events[i].op);
      event.Set("shapes", events[i].shapes);
      event.Set("begin", events[i].begin);
      event.Set("end", events[i].end);
      event.Set("multiplyAdds", events[i].multiply_adds);
      result.Set(i, event);
    }
    return result;
  });
}

Napi::Value DeviceObject::describe_js(const Napi::CallbackInfo& info) {
  return guarded(
      info, [&]() -> Napi::Value { return Napi::String::New(info.Env(), device_->engine().description()); });
}

Napi::Value DeviceObject::close_js(const Napi::CallbackInfo& info) {
  close(true);
  return info.Env().Undefined();
}

}  // namespace glnet::addon
