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

/// The view's values in double.
inline View widened(const View& view, Builder& memory) {
  const View copy = memory.allocate(view.shape, DType::float64);
  for (int64_t i = 0; i < view.size(); ++i) reference::store(copy, i, reference::load(view, i));
  return copy;
}

template <class Op>
Op evaluated(Op op, Builder& memory, bool widen) {
  for_each_view(op, [&](const char*, auto& view) {
    using Kind = std::remove_cvref_t<decltype(view)>;
    if (is_output<Kind> || !view.data) return;
    if (widen && is_floating(view.dtype)) {
      static_cast<View&>(view) = widened(view, memory);
    } else if (is_result<Kind>) {
      const View copy = memory.allocate(view.shape, view.dtype);
      std::memcpy(copy.data, view.data, view.bytes());
      static_cast<View&>(view) = copy;
    }
  });
  op.infer();
  for_each_view(op, [&](const char*, auto& view) {
    if (!is_output<decltype(view)>) return;
    const DType dtype = widen && is_floating(view.dtype) ? DType::float64 : view.dtype;
    static_cast<View&>(view) = memory.allocate(view.shape, dtype);
  });
  kernel_of<Op>(reference_backend()).run(op, Context{});
  return op;
}

/// What an op has computed.
template <class Op>
std::vector<Output> results_of(const Op& op) {
  std::vector<Output> outputs;
  for_each_view(op, [&](const char* name, const auto& view) {
    if (is_result<decltype(view)>) outputs.push_back({name, view});
  });
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
    const auto exact = results_of(evaluated(op, memory));
    const auto plain = results_of(evaluated(op, memory, false));
    const auto got = run_device(op, memory, device);
    for (size_t i = 0; i < got.size(); ++i) {
      const std::string wrong = judge(got[i], exact[i], plain[i], limits, worst);
      if (!wrong.empty()) return std::string(name_of(dtype)) + ": " + wrong;
    }
  }
  return {};
}

template <class Op>
std::string Suite::differentiate(const std::function<Op(Builder&)>& make, const std::string& of,
                                 const std::string& with_respect_to, int index,
                                 const std::function<View(Builder&, const Op&, const View& dy)>& backward) {
  constexpr double kStep = 1e-6;
  constexpr int64_t kMost = 200;  // elements that are tried
  const auto at = [](std::vector<Output> outputs, const std::string& name) {
    for (const Output& output : outputs)
      if (output.name == name) return output.view;
    fail(ErrorCode::native, "no output ", name);
  };
  Builder memory(DType::float64, 1);
  Op op = make(memory);
  View varied;
  int seen = 0;
  for_each_view(op, [&](const char* name, auto& view) {
    if (is_output<decltype(view)> || !view.data) return;
    if (is_floating(view.dtype)) static_cast<View&>(view) = widened(view, memory);
    if (name == with_respect_to && seen++ == index) varied = view;
  });
  if (!varied.data) return "there is no input " + with_respect_to;
  const Op forward = evaluated(op, memory);
  const View dy = memory.tensor(at(results_of(forward), of).shape);
  const View gradient = backward(memory, forward, dy);
  if (gradient.shape != varied.shape) return "the gradient has another shape";

  const auto objective = [&] {
    Builder scratch(DType::float64, 1);
    const View y = at(results_of(evaluated(op, scratch)), of);
    double sum = 0;
    for (int64_t i = 0; i < y.size(); ++i) sum += dy.as<double>()[i] * y.as<double>()[i];
    return sum;
  };
  double largest = 0;
  for (int64_t i = 0; i < gradient.size(); ++i)
    largest = std::max(largest, std::abs(reference::load(gradient, i)));
  const int64_t count = std::min(varied.size(), kMost);
  for (int64_t k = 0; k < count; ++k) {
    const int64_t i = varied.size() * k / count;
    double& element = varied.as<double>()[i];
    const double before = element;
    element = before + kStep;
    const double above = objective();
    element = before - kStep;
    const double below = objective();
    element = before;
    const double expected = (above - below) / (2 * kStep), got = reference::load(gradient, i);
    if (!(std::abs(got - expected) <= 1e-6 * (1 + largest))) {
      std::ostringstream wrong;
      wrong << "element " << i << " of the gradient is " << got << ", by differences " << expected;
      return wrong.str();
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
