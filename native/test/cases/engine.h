// Tests of the CUDA engine, on the emulated runtime: what is copied, in what order, and what failures say.
#pragma once

#include <cstdlib>
#include <functional>
#include <numeric>
#include <thread>

#include "core/library.h"
#include "cuda/vendor/emulated.cuh"
#include "test/cases/emulator.h"

extern "C" const glnet::Backend* glnet_backend(const char* wanted, const char** own);

namespace glnet::test {

/// The emulated machine, as new; with a variable of the environment that says something of it.
class EmulatedMachine {
 public:
  explicit EmulatedMachine(const char* variable = nullptr, const char* value = "") : variable_(variable) {
    if (variable_) setenv(variable_, value, 1);
    emulator::reset_machine();
  }
  ~EmulatedMachine() {
    if (variable_) unsetenv(variable_);
    emulator::reset_machine();
  }

 private:
  const char* variable_;
};

namespace kernels {

__global__ inline void add_one(uint8_t* data, size_t n) {
  for (size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) ++data[i];
}

__global__ inline void write_outside() {
  SHARED_ARRAY(int, tile, 4);
  tile[threadIdx.x] = 1;
}

}  // namespace kernels

/// The CUDA backend on the emulator, which is linked into this program.
inline const Backend& emulator_backend() {
  const char* own = "";
  return *glnet_backend(fingerprint().c_str(), &own);
}

/// A device whose pool is for the test alone.
inline Device emulated_device(int index = 0) {
  return Device(emulator_backend(), {.index = index, .threads = 1});
}

/// The message with which a device fails when it is waited for.
inline std::string failure_of(Device& device) {
  try {
    wait(device);
    return "no error";
  } catch (const Error& error) {
    return error.what();
  }
}

/// Queues a kernel that adds 1 to each of the tensor's bytes.
inline void add_one(Device& device, const Tensor& tensor) {
  device.stream().enqueue([&engine = device.engine(), data = static_cast<uint8_t*>(tensor.storage->data()),
                           n = tensor.view().bytes()] {
    emulator::launch(kernels::add_one, 3, 64, 0, static_cast<emulator::cudaStream_t>(engine.queue()), data,
                     n);
  });
}

/// A tensor of bytes, all of them 0.
inline Tensor zero_bytes(Device& device, int64_t n) {
  Tensor tensor = device.allocate({n}, DType::uint8, "test");
  device.clear(tensor.view());
  return tensor;
}

/// Notes unless all of the tensor's bytes have this value.
inline void expect_bytes(Findings& wrong, Device& device, const Tensor& tensor, int value) {
  std::vector<uint8_t> got(tensor.view().bytes());
  device.download(got.data(), tensor.view());
  wait(device);
  wrong.equal("bytes as expected", std::count(got.begin(), got.end(), static_cast<uint8_t>(value)),
              static_cast<int64_t>(got.size()));
}

/// What has been done with graphs since.
class GraphsSince {
 public:
  void expect(Findings& wrong, int instantiated, int updated, int launched) const {
    const emulator::GraphCounts now = emulator::graph_counts();
    wrong.equal("graphs instantiated", now.instantiated - before_.instantiated, instantiated);
    wrong.equal("graphs updated", now.updated - before_.updated, updated);
    wrong.equal("graphs launched", now.launched - before_.launched, launched);
  }

 private:
  emulator::GraphCounts before_ = emulator::graph_counts();
};

inline void graph_cases(Suite& suite) {
  suite.direct("engine", "a graph is updated with what is queued each time", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      Device device = emulated_device();
      const GraphsSince counts;
      std::vector<Tensor> tensors;
      for (int round = 0; round < 4; ++round) {
        // Of another size and at another place, on memory that is cleared in the graph.
        tensors.push_back(zero_bytes(device, 1000 + round));
        add_one(device, tensors.back());
        device.begin_graph(1);
        const Tensor& tensor = tensors[static_cast<size_t>(round) / 2 * 2];
        const Tensor passing = zero_bytes(device, 77);
        add_one(device, tensor);
        add_one(device, passing);
        add_one(device, tensor);
        device.end_graph();
        add_one(device, tensor);
      }
      wait(device);
      counts.expect(wrong, 1, 3, 4);
      wrong.equal("launches of the engine", device.engine().graph_launches(), 4);
      for (size_t i = 0; i < tensors.size(); ++i) {
        expect_bytes(wrong, device, tensors[i], i % 2 == 0 ? 7 : 1);
      }
    });
  });
  suite.direct("engine", "a graph of other launches is made anew, and each number has its own", [](Device&) {
    Findings wrong;
    Device device = emulated_device();
    const GraphsSince counts;
    const Tensor tensor = zero_bytes(device, 100);
    int sum = 0;
    for (const auto& [number, launches] : {std::pair{1, 2}, {2, 3}, {1, 2}, {2, 3}, {1, 4}, {1, 4}}) {
      device.begin_graph(static_cast<uint64_t>(number));
      for (int i = 0; i < launches; ++i) add_one(device, tensor);
      device.end_graph();
      sum += launches;
    }
    expect_bytes(wrong, device, tensor, sum);
    counts.expect(wrong, 3, 3, 6);
    return wrong.text();
  });
  suite.direct("engine", "what cannot be in a graph ends it, and keeps its place", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      Device device = emulated_device();
      const GraphsSince counts;
      const Tensor tensor = zero_bytes(device, 100), other = zero_bytes(device, 100);
      const std::vector<uint8_t> from(100, 50);
      device.begin_graph(1);
      add_one(device, tensor);
      device.upload(tensor.view(), from.data());
      add_one(device, tensor);
      device.end_graph();
      expect_bytes(wrong, device, tensor, 51);
      counts.expect(wrong, 1, 0, 1);
      // Memory that goes back to the system is waited for.
      {
        const Tensor cached = zero_bytes(device, 64 << 20);
      }
      device.begin_graph(1);
      add_one(device, tensor);
      device.pool().trim();
      add_one(device, tensor);
      device.end_graph();
      expect_bytes(wrong, device, tensor, 53);
      counts.expect(wrong, 2, 0, 2);
      // Nothing is left of a graph in which nothing was.
      device.begin_graph(1);
      device.end_graph();
      add_one(device, tensor);
      expect_bytes(wrong, device, tensor, 54);
      counts.expect(wrong, 2, 0, 2);
      // A whole one is kept for the next whole one, whatever comes in between.
      for (const bool whole : {true, false, true}) {
        device.begin_graph(1);
        add_one(device, tensor);
        add_one(device, tensor);
        if (!whole) device.upload(other.view(), from.data());
        device.end_graph();
      }
      expect_bytes(wrong, device, tensor, 60);
      counts.expect(wrong, 4, 1, 5);
    });
  });
  suite.direct(
      "engine", "a graph in which something fails hides nothing, and nobody waits for it", [](Device&) {
        Findings wrong;
        {
          Device device = emulated_device();
          const Tensor tensor = zero_bytes(device, 100);
          device.begin_graph(1);
          add_one(device, tensor);
          device.stream().enqueue([] { fail(ErrorCode::native, "the reason"); });
          add_one(device, tensor);
          device.end_graph();
          wrong.equal("failure", failure_of(device), std::string("the reason"));
        }
        {
          const EmulatedMachine machine;
          Device device = emulated_device();
          device.begin_graph(1);
          device.stream().enqueue([&] {
            emulator::launch(kernels::write_outside, 1, 8, 0,
                             static_cast<emulator::cudaStream_t>(device.engine().queue()));
          });
          device.end_graph();
          const std::string message = failure_of(device);
          wrong.holds(message.c_str(), message.find("element 4 of an array of 4") != std::string::npos);
        }
        {
          // Closed in the middle of one.
          Device device = emulated_device();
          device.begin_graph(1);
          add_one(device, zero_bytes(device, 100));
        }
        return wrong.text();
      });
  suite.direct("engine", "graphs are made where they are of use alone, and go", [](Device& given) {
    Findings wrong;
    const int alive = emulator::graph_counts().alive;
    {
      Device device = emulated_device();
      const GraphsSince counts;
      const Tensor tensor = zero_bytes(device, 100);
      const auto round = [&] {
        device.begin_graph(1);
        add_one(device, tensor);
        device.end_graph();
      };
      device.trace().start();
      round();
      device.trace().stop();
      device.begin_plan(0);
      device.begin_graph(1);
      device.end_graph();
      device.end_plan();
      wait(device);
      counts.expect(wrong, 0, 0, 0);
      round();
      device.begin_graph(2);
      const std::string refused = message_of(ErrorCode::invalid_argument, [&] { device.begin_graph(1); });
      wrong.equal("refused", refused, std::string("a graph within a graph"));
      add_one(device, tensor);
      // Ends the open one, which this might be.
      device.drop_graph(3);
      add_one(device, tensor);
      wait(device);
      wrong.equal("graphs alive", emulator::graph_counts().alive - alive, 2);
      round();
      device.drop_graph(1);
      device.drop_graph(1);
      wait(device);
      wrong.equal("graphs alive", emulator::graph_counts().alive - alive, 1);
      expect_bytes(wrong, device, tensor, 5);
    }
    wrong.equal("graphs alive", emulator::graph_counts().alive - alive, 0);
    // The reference's device has none.
    given.begin_graph(1);
    given.end_graph();
    given.drop_graph(1);
    wrong.equal("launches", given.engine().graph_launches(), 0);
    return wrong.text();
  });
  suite.direct("engine", "caught: what no capture would take", [](Device&) {
    Findings wrong;
    using namespace emulator;
    const EmulatedMachine machine;
    cudaStream_t stream = nullptr, other = nullptr;
    cudaEvent_t event = nullptr;
    cudaStreamCreateWithFlags(&stream, 0);
    cudaStreamCreateWithFlags(&other, 0);
    cudaEventCreateWithFlags(&event, 0);
    cudaEventRecord(event, other);
    void* memory = nullptr;
    const auto take = [&] { return cudaMalloc(&memory, 16); };
    const auto spoils = [&](const char* what, cudaError_t expected,
                            const std::function<cudaError_t()>& call) {
      cudaGraph_t graph = nullptr;
      wrong.equal("begun", cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
      wrong.equal(what, call(), expected);
      const cudaError_t ended = expected == cudaSuccess ? cudaSuccess : cudaErrorStreamCaptureInvalidated;
      wrong.equal(what, cudaStreamEndCapture(stream, &graph), ended);
      wrong.equal(what, graph != nullptr, expected == cudaSuccess);
      if (graph) cudaGraphDestroy(graph);
    };
    spoils("a wait", cudaErrorStreamCaptureUnsupported, [&] { return cudaEventSynchronize(event); });
    spoils("a wait", cudaErrorStreamCaptureUnsupported, [&] { return cudaStreamSynchronize(stream); });
    spoils("a record", cudaErrorStreamCaptureUnsupported, [&] { return cudaEventRecord(event, stream); });
    spoils("another's event", cudaErrorStreamCaptureIsolation,
           [&] { return cudaStreamWaitEvent(stream, event); });
    spoils("memory", cudaErrorStreamCaptureUnsupported, take);
    spoils("another thread's memory", cudaSuccess, [&] {
      cudaError_t result = cudaErrorInvalidValue;
      std::thread([&] { result = take(); }).join();
      return result;
    });
    cudaFree(memory);
    cudaEventDestroy(event);
    cudaStreamDestroy(stream);
    cudaStreamDestroy(other);
    return wrong.text();
  });
}

inline void engine_cases(Suite& suite) {
  constexpr size_t kSlot = size_t{2} << 20;
  suite.direct("engine", "what goes to the device and back is the same, whatever its size", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      Device device = emulated_device();
      for (const size_t n : {size_t{1}, size_t{3}, kSlot - 1, kSlot, kSlot + 1, 9 * kSlot + 5}) {
        const Tensor tensor = device.allocate({static_cast<int64_t>(n)}, DType::uint8, "test");
        std::vector<uint8_t> from(n), to(n);
        std::iota(from.begin(), from.end(), static_cast<uint8_t>(n));
        const std::vector<uint8_t> expected = from;
        device.upload(tensor.view(), from.data());
        // Read when the stream has passed it, though it may not have arrived.
        device.stream().enqueue([&] { std::fill(from.begin(), from.end(), uint8_t{0}); });
        device.download(to.data(), tensor.view());
        wait(device);
        wrong.holds("the same bytes", to == expected);
      }
    });
  });
  suite.direct("engine", "copies keep their place among the work, in memory that is used again", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      Device device = emulated_device();
      const size_t n = kSlot + 100;
      std::vector<uint8_t> got[6];
      for (uint8_t round = 0; round < 6; ++round) {
        // The pool gives the same block each time, while earlier rounds are still queued.
        const Tensor tensor = device.allocate({static_cast<int64_t>(n)}, DType::uint8, "test");
        const std::vector<uint8_t> from(n, static_cast<uint8_t>(10 * round));
        device.upload(tensor.view(), from.data());
        wait(device);
        for (int i = 0; i < round; ++i) {
          device.stream().enqueue([&device, n, data = static_cast<uint8_t*>(tensor.storage->data())] {
            emulator::launch(kernels::add_one, 3, 64, 0,
                             static_cast<emulator::cudaStream_t>(device.engine().queue()), data, n);
          });
        }
        got[round].resize(n);
        device.download(got[round].data(), tensor.view());
        if (round == 3) device.clear(tensor.view());
      }
      wait(device);
      for (uint8_t round = 0; round < 6; ++round) {
        wrong.equal("bytes as expected",
                    std::count(got[round].begin(), got[round].end(), static_cast<uint8_t>(11 * round)), n);
      }
    });
  });
  suite.direct("engine", "uploads wait for nothing that computes", [](Device&) {
    Findings wrong;
    emulator::set_schedule({emulator::Schedule::Order::reverse});
    {
      Device device = emulated_device();
      const Tensor first = device.allocate({64}, DType::uint8, "test");
      const Tensor second = device.allocate({64}, DType::uint8, "test");
      const std::vector<uint8_t> from(64, 7);
      std::promise<void> queued;
      bool ran = false;
      device.stream().enqueue([&] {
        emulator::detail::submit(static_cast<emulator::cudaStream_t>(device.engine().queue()),
                                 [&] { ran = true; });
      });
      device.upload(second.view(), from.data());
      device.upload(second.view(), from.data());
      bool ran_before = true;
      device.stream().enqueue([&] {
        // The copies are on their way: in this order of streams they come before the kernel.
        ran_before = ran;
        queued.set_value();
      });
      queued.get_future().wait();
      wrong.holds("uploads are queued while the kernel has not run", !ran_before);
      wait(device);
      wrong.holds("the kernel ran", ran);
    }
    emulator::set_schedule({});
    return wrong.text();
  });
  suite.direct("engine", "two devices compute side by side", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      Device devices[2] = {emulated_device(0), emulated_device(1)};
      std::vector<uint8_t> got[2];
      std::vector<Tensor> tensors;
      for (uint8_t i = 0; i < 2; ++i) {
        const std::vector<uint8_t> from(1000, static_cast<uint8_t>(50 + i));
        tensors.push_back(devices[i].allocate({1000}, DType::uint8, "test"));
        devices[i].upload(tensors[i].view(), from.data());
        wait(devices[i]);
        got[i].resize(1000);
        devices[i].download(got[i].data(), tensors[i].view());
      }
      for (uint8_t i = 0; i < 2; ++i) {
        wait(devices[i]);
        wrong.equal("bytes", std::count(got[i].begin(), got[i].end(), static_cast<uint8_t>(50 + i)), 1000);
      }
    });
  });
  suite.direct("engine", "a machine without a device says why", [](Device&) {
    Findings wrong;
    const auto refusal = [](const char* variable, const char* value, ErrorCode code, int index = 0) {
      const EmulatedMachine machine(variable, value);
      return message_of(code, [&] { emulated_device(index); });
    };
    const auto says = [&](const std::string& message, const char* expected) {
      wrong.holds(message.c_str(), message.find(expected) != std::string::npos);
    };
    says(refusal("GLNET_EMULATOR_FAULT", "no-driver", ErrorCode::native),
         "there is no NVIDIA driver on this machine. Install one for CUDA 13.0 or later");
    says(refusal("GLNET_EMULATOR_FAULT", "old-driver", ErrorCode::native),
         "the NVIDIA driver is for CUDA 11.4, and this build needs one for CUDA 13.0 or later");
    says(refusal("GLNET_EMULATOR_DEVICES", "0", ErrorCode::native), "the NVIDIA driver sees no GPU");
    says(refusal("GLNET_EMULATOR_DEVICES", "1", ErrorCode::invalid_argument, 1),
         "there is no device 1; the machine has 1");
    return wrong.text();
  });
  suite.direct("engine", "out of memory names what was asked for, and the device goes on", [](Device&) {
    Findings wrong;
    const EmulatedMachine machine("GLNET_EMULATOR_MEMORY", "20971520");  // 20 MiB
    Device device = emulated_device(1);
    const Tensor kept = device.allocate({10 << 20}, DType::uint8, "test");
    const std::string message =
        message_of(ErrorCode::out_of_memory, [&] { device.allocate({16 << 20}, DType::uint8, "conv2d"); });
    wrong.holds(message.c_str(),
                message.starts_with("conv2d needs 16.0 MiB; in use are 10.0 MiB") &&
                    message.ends_with("the device has no more memory. Lower the batch size"));
    const std::vector<uint8_t> from(10 << 20, 3);
    std::vector<uint8_t> to(10 << 20);
    device.upload(kept.view(), from.data());
    device.download(to.data(), kept.view());
    wait(device);
    wrong.holds("the same bytes", to == from);
    return wrong.text();
  });
  suite.direct("engine", "a kernel's failure and a lost device reach whoever waits, and stay", [](Device&) {
    Findings wrong;
    {
      const EmulatedMachine machine;
      Device device = emulated_device();
      device.stream().enqueue([&] {
        emulator::launch(kernels::write_outside, 1, 8, 0,
                         static_cast<emulator::cudaStream_t>(device.engine().queue()));
      });
      for (int i = 0; i < 2; ++i) {
        const std::string message = failure_of(device);
        wrong.holds(message.c_str(), message.find("cudaErrorLaunchFailure") != std::string::npos &&
                                         message.find("element 4 of an array of 4") != std::string::npos &&
                                         message.find("dispose of the model, and start the process anew") !=
                                             std::string::npos);
      }
    }
    {
      const EmulatedMachine machine("GLNET_EMULATOR_FAULT", "lost:1");
      Device device = emulated_device();
      const Tensor tensor = device.allocate({64}, DType::uint8, "test");
      for (int i = 0; i < 2; ++i) {
        device.stream().enqueue([&] {
          emulator::launch(kernels::add_one, 1, 64, 0,
                           static_cast<emulator::cudaStream_t>(device.engine().queue()),
                           static_cast<uint8_t*>(tensor.storage->data()), size_t{64});
        });
      }
      const std::string message = failure_of(device);
      wrong.holds(message.c_str(), message.find("the device was lost") != std::string::npos);
      const std::string refused =
          message_of(ErrorCode::native, [&] { device.allocate({100 << 20}, DType::uint8, "test"); });
      wrong.holds(refused.c_str(), refused.find("the device was lost") != std::string::npos);
    }
    return wrong.text();
  });
  suite.direct("engine", "caught: copies that no device would take", [](Device&) {
    Findings wrong;
    using namespace emulator;
    const EmulatedMachine machine;
    cudaStream_t streams[2];
    cudaEvent_t events[2];
    for (int i = 0; i < 2; ++i) {
      cudaStreamCreateWithFlags(&streams[i], 0);
      cudaEventCreateWithFlags(&events[i], 0);
    }
    cudaEventRecord(events[0], streams[0]);
    cudaStreamSynchronize(streams[0]);
    const cudaError_t ok = cudaStreamWaitEvent(streams[1], events[0]);
    wrong.equal("a wait for what has passed",
                ok == cudaSuccess && cudaStreamSynchronize(streams[1]) == cudaSuccess, true);
    char pageable[16] = {};
    void* memory = nullptr;
    cudaMalloc(&memory, 16);
    wrong.equal("a copy from pageable memory",
                cudaMemcpyAsync(memory, pageable, 16, cudaMemcpyHostToDevice, streams[0]),
                cudaErrorInvalidValue);
    wrong.equal("a copy past a block",
                cudaMemcpyAsync(memory, memory, 17, cudaMemcpyDeviceToDevice, streams[0]),
                cudaErrorInvalidValue);
    cudaFree(memory);
    for (int i = 0; i < 2; ++i) {
      cudaEventDestroy(events[i]);
      cudaStreamDestroy(streams[i]);
    }
    return wrong.text();
  });
  graph_cases(suite);
}

}  // namespace glnet::test
