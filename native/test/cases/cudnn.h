// Tests of the wrapper of cuDNN, on what stands in for it on the emulator.
#pragma once

#include <thread>

#include "emulator/cudnn.h"
#include "test/cases/conv2d.h"
#include "test/cases/engine.h"

namespace glnet::test {

/// Uses cuDNN, or does not, while this lives.
class WithCudnn {
 public:
  explicit WithCudnn(bool wanted) : before_(emulator::want_cudnn(wanted)) {}
  ~WithCudnn() { emulator::want_cudnn(before_); }

 private:
  bool before_;
};

/// What cudnnCreate and cuDNN's convolutions answer while this lives.
class CudnnAnswers {
 public:
  CudnnAnswers(emulator::cudnnStatus_t create, emulator::cudnnStatus_t convolution) {
    emulator::fail_cudnn(create, convolution);
  }
  ~CudnnAnswers() { emulator::fail_cudnn(emulator::CUDNN_STATUS_SUCCESS, emulator::CUDNN_STATUS_SUCCESS); }
};

/// How often cuDNN's convolutions were called while this op was computed; what is wrong with the results goes
/// to `wrong`.
inline emulator::CudnnRuns runs_of(const Conv2dSizes& sizes, bool bias, bool residual, bool relu, DType dtype,
                                   Device& device, Findings& wrong) {
  const emulator::CudnnRuns before = emulator::cudnn_runs();
  Builder memory(dtype, 1);
  const Conv2d op = random_conv2d(memory, sizes, bias, residual, relu);
  const auto exact = results_of(evaluated(op, memory)), plain = results_of(evaluated(op, memory, false));
  double worst = 0;
  const std::string text = judge(run_device(op, memory, device)[0], exact[0], plain[0], {}, worst);
  wrong.holds(text.c_str(), text.empty());
  const emulator::CudnnRuns after = emulator::cudnn_runs();
  return {after.plain - before.plain, after.fused - before.fused};
}

inline void cudnn_cases(Suite& suite) {
  suite.direct("cudnn", "conv2d computes the same with it, and refuses the same", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      const WithCudnn with(true);
      Device device(emulator_backend(), {.threads = 1, .guarded = true});
      const emulator::CudnnRuns before = emulator::cudnn_runs();
      Suite cases;
      conv2d_cases(cases);
      double worst = 0;
      for (const Case& c : cases.cases()) {
        if (c.benchmark) continue;
        const std::string text = c.run(device, worst);
        wrong.holds((c.name + ": " + text).c_str(), text.empty());
        wrong.equal("bytes left in the pool", device.pool().counters().active, 0);
      }
      const emulator::CudnnRuns after = emulator::cudnn_runs();
      wrong.holds("plain convolutions are cuDNN's", after.plain - before.plain >= 25);
      wrong.holds("those with a bias are", after.fused - before.fused >= 25);
      wrong.holds("the device says so",
                  device.engine().description().find(", cuDNN 9.12.0") != std::string::npos);
    });
  });
  suite.direct("cudnn", "what is cuDNN's and what is ours", [](Device&) {
    Findings wrong;
    const WithCudnn with(true);
    Device device = emulated_device();
    const auto runs = [&](const Conv2dSizes& sizes, bool bias, bool residual, bool relu, DType dtype) {
      const auto [plain, fused] = runs_of(sizes, bias, residual, relu, dtype, device, wrong);
      return std::to_string(plain) + " plain, " + std::to_string(fused) + " fused";
    };
    const Conv2dSizes eights{1, 9, 11, 16, 8, 3, 2, 1}, others{1, 9, 11, 16, 7, 3, 2, 1};
    for (const DType dtype : {DType::float32, DType::bfloat16}) {
      wrong.equal("no bias", runs(eights, false, false, false, dtype), "1 plain, 0 fused");
      wrong.equal("bias", runs(eights, true, false, false, dtype), "0 plain, 1 fused");
      wrong.equal("bias, residual", runs(eights, true, true, false, dtype), "0 plain, 1 fused");
      wrong.equal("bias, residual, relu", runs(eights, true, true, true, dtype), "0 plain, 1 fused");
      wrong.equal("residual", runs(eights, false, true, false, dtype), "0 plain, 0 fused");
      wrong.equal("relu", runs(eights, false, false, true, dtype), "0 plain, 0 fused");
    }
    wrong.equal("7 outputs", runs(others, true, false, true, DType::float32), "0 plain, 1 fused");
    wrong.equal("7 outputs, bfloat16", runs(others, true, false, true, DType::bfloat16), "0 plain, 0 fused");
    const WithCudnn without(false);
    wrong.equal("not wanted", runs(eights, true, true, true, DType::float32), "0 plain, 0 fused");
    return wrong.text();
  });
  suite.direct("cudnn", "what it has no code or no memory for is ours, and is not tried again", [](Device&) {
    Findings wrong;
    const WithCudnn with(true);
    Device device = emulated_device();
    int width = 40;  // shapes that no other test has
    for (const auto status : {emulator::CUDNN_STATUS_NOT_SUPPORTED_SHAPE,
                              emulator::CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED}) {
      const Conv2dSizes sizes{1, 3, ++width, 8, 8, 3, 1, 1};
      {
        const CudnnAnswers answers(emulator::CUDNN_STATUS_SUCCESS, status);
        wrong.equal("tries", runs_of(sizes, true, true, true, DType::float32, device, wrong).fused, 1);
      }
      wrong.equal("later tries", runs_of(sizes, true, true, true, DType::float32, device, wrong).fused, 0);
    }
    return wrong.text();
  });
  suite.direct("cudnn", "its failure names the op and its shapes", [](Device&) {
    Findings wrong;
    const WithCudnn with(true);
    const CudnnAnswers answers(emulator::CUDNN_STATUS_SUCCESS, emulator::CUDNN_STATUS_EXECUTION_FAILED);
    Device device = emulated_device();
    const std::string message = message_of(ErrorCode::native, [&] {
      runs_of({1, 3, 43, 8, 8, 3, 1, 1}, false, false, false, DType::float32, device, wrong);
    });
    wrong.equal(
        "message", message,
        "conv2d: cudnnConvolutionForward: CUDNN_STATUS_EXECUTION_FAILED; x is [1, 3, 43, 8], weight [8, 8, "
        "3, 3], float32, stride 1, padding 1. To do without cuDNN, set GLNET_CUDNN=0");
    return wrong.text();
  });
  suite.direct("cudnn", "two devices on one GPU use it from their threads", [](Device&) {
    return under_each_schedule([](Findings& wrong) {
      const WithCudnn with(true);
      Findings found[2];
      const auto convolve = [&](int which) {
        Device device = emulated_device();
        try {
          for (int i = 0; i < 20; ++i) {
            const Conv2dSizes sizes{1, 5, 20 + i, 8, 8, 3, 1, 1};
            const auto runs = runs_of(sizes, true, false, true, DType::float32, device, found[which]);
            found[which].holds("cuDNN computes", runs.fused >= 1);
          }
        } catch (const Error& error) {
          found[which].equal("error", std::string(error.what()), "none");
        }
      };
      std::thread other(convolve, 1);
      convolve(0);
      other.join();
      for (const Findings& findings : found) wrong.holds(findings.text().c_str(), findings.text().empty());
    });
  });
  // The last: that device stays without.
  suite.direct("cudnn", "a device that it cannot use computes without", [](Device&) {
    Findings wrong;
    const WithCudnn with(true);
    const CudnnAnswers answers(emulator::CUDNN_STATUS_NOT_INITIALIZED, emulator::CUDNN_STATUS_SUCCESS);
    Device device = emulated_device(1);
    wrong.equal("runs",
                runs_of({1, 3, 44, 8, 8, 3, 1, 1}, false, false, false, DType::float32, device, wrong).plain,
                0);
    return wrong.text();
  });
}

}  // namespace glnet::test
