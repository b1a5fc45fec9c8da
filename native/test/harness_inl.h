// Templates of harness.h.
#pragma once

#include <chrono>
#include <cstring>
#include <future>

#include "reference/kernels.h"

namespace glnet::test {

template <class V>
inline constexpr bool is_output = std::is_same_v<std::remove_cvref_t<V>, Out>;
template <class V>
inline constexpr bool is_result = is_output<V> || std::is_same_v<std::remove_cvref_t<V>, InOut>;

/// Waits for the device, and throws what went wrong there.
inline void wait(Device& device) {
  std::promise<void> done;
  device.stream().observe([&](std::exception_ptr error) {
    if (error) {
      done.set_exception(error);
    } else {
      done.set_value();
    }
  });
  done.get_future().get();
}

template <class Op>
std::vector<Output> run_reference(Op op, Builder& memory, const DType* floating) {
  for_each_view(op, [&](const char*, auto& view) {
    if (is_output<decltype(view)> || !view.data) return;
    const DType dtype = floating && is_floating(view.dtype) ? *floating : view.dtype;
    const View copy = memory.allocate(view.shape, dtype);
    for (int64_t i = 0; i < view.size(); ++i) {
      if (dtype == view.dtype) {
        std::memcpy(copy.data, view.data, view.bytes());
        break;
      }
      reference::store(copy, i, reference::load(view, i));
    }
    static_cast<View&>(view) = copy;
  });
  op.infer();
  std::vector<Output> outputs;
  for_each_view(op, [&](const char* name, auto& view) {
    if (is_output<decltype(view)>) {
      const DType dtype = floating && is_floating(view.dtype) ? *floating : view.dtype;
      static_cast<View&>(view) = memory.allocate(view.shape, dtype);
    }
    if (is_result<decltype(view)>) outputs.push_back({name, view});
  });
  kernel_of<Op>(reference_backend()).run(op, Context{});
  return outputs;
}

/// Puts the inputs of an op on the device; `held` keeps them there.
template <class Op>
void upload(Op& op, Device& device, std::vector<Tensor>& held) {
  for_each_view(op, [&](const char* name, auto& view) {
    if (is_output<decltype(view)> || !view.data) return;
    held.push_back(device.allocate(view.shape, view.dtype, name));
    device.upload(held.back().view(), view.data);
    static_cast<View&>(view) = held.back().view();
  });
}

template <class Op>
std::vector<Output> run_device(Op op, Builder& memory, Device& device) {
  std::vector<Tensor> held;
  upload(op, device, held);
  const std::vector<Tensor> made = device.submit(op);
  std::vector<Output> outputs;
  size_t next = 0;
  for_each_view(op, [&](const char* name, auto& view) {
    if (!is_result<decltype(view)>) return;
    const View on_device = is_output<decltype(view)> ? made[next++].view() : static_cast<const View&>(view);
    outputs.push_back({name, memory.allocate(on_device.shape, on_device.dtype)});
    device.download(outputs.back().view.data, on_device);
  });
  wait(device);
  return outputs;
}

template <class Op>
std::string Suite::compare(const std::function<Op(Builder&)>& make, const Limits& limits, Device& device,
                           double& worst) {
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    if (dtype == DType::bfloat16 && !limits.bfloat16) continue;
    Builder memory(dtype, 1);
    const Op op = make(memory);
    const DType exact_dtype = DType::float64;
    const auto exact = run_reference(op, memory, &exact_dtype);
    const auto plain = run_reference(op, memory, nullptr);
    const auto got = run_device(op, memory, device);
    for (size_t i = 0; i < got.size(); ++i) {
      const std::string wrong = judge(got[i], exact[i], plain[i], limits, worst);
      if (!wrong.empty()) return std::string(name_of(dtype)) + ": " + wrong;
    }
  }
  return {};
}

template <class Op>
Case::Cost Suite::measure(const std::function<Op(Builder&)>& make, Device& device, DType dtype, int repeats) {
  Builder memory(dtype, 1);
  Op op = make(memory);
  std::vector<Tensor> held;
  upload(op, device, held);
  op.infer();
  double bytes = 0;
  for_each_view(op, [&](const char*, const auto& view) { bytes += static_cast<double>(view.bytes()); });
  device.submit(op);
  wait(device);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < repeats; ++i) device.submit(op);
  wait(device);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return {seconds.count() / repeats, op.multiply_adds(), bytes};
}

template <class Op>
std::string Suite::refused(const std::function<Op(Builder&)>& make, const std::string& expected,
                           Device& device) {
  Builder memory(DType::float32, 1);
  Op op = make(memory);
  std::vector<Tensor> held;
  upload(op, device, held);
  try {
    device.submit(op);
  } catch (const Error& error) {
    if (std::string(error.what()).find(expected) != std::string::npos) return {};
    return std::string("refused with '") + error.what() + "', expected '" + expected + "'";
  }
  wait(device);
  return "not refused";
}

}  // namespace glnet::test
