// What the card reaches in the simplest kernels, to hold the timings of the ops against: bytes a second of a
// copy that does not fit into the L2 cache, and float32 operations a second of multiply-adds in registers.
//
//   glnet_cuda_peak      prints {"gbps": 3000.1, "gflops": 60000.1}
//
// Each is the best of some runs: the peak is wanted, not what is usual.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace {

constexpr int kThreads = 256;
constexpr int kRuns = 10;
constexpr size_t kBytes = size_t{512} << 20;
constexpr int kChains = 8;       // independent, to cover an instruction's latency
constexpr int kSteps = 1 << 13;  // multiply-adds a chain

void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "glnet_cuda_peak: %s: %s\n", what, cudaGetErrorString(status));
  std::exit(1);
}

__global__ void copy_kernel(const float4* x, float4* y, size_t n) {
  for (size_t i = blockIdx.x * size_t{kThreads} + threadIdx.x; i < n; i += gridDim.x * size_t{kThreads}) {
    y[i] = x[i];
  }
}

__global__ void multiply_add_kernel(float a, float b, float* y) {
  float sums[kChains];
  for (int c = 0; c < kChains; ++c) sums[c] = static_cast<float>(threadIdx.x + c);
  for (int i = 0; i < kSteps; ++i) {
    for (int c = 0; c < kChains; ++c) sums[c] = sums[c] * a + b;
  }
  float sum = 0;
  for (int c = 0; c < kChains; ++c) sum += sums[c];
  // Never so, which the compiler cannot know.
  if (sum == 1e30f) y[threadIdx.x] = sum;
}

/// The fewest seconds that `queue` took on the device.
template <class Queue>
double best_seconds(Queue&& queue) {
  cudaEvent_t start, stop;
  check_cuda(cudaEventCreate(&start), "cudaEventCreate");
  check_cuda(cudaEventCreate(&stop), "cudaEventCreate");
  double best = 1e9;
  for (int i = 0; i <= kRuns; ++i) {
    check_cuda(cudaEventRecord(start), "cudaEventRecord");
    queue();
    check_cuda(cudaGetLastError(), "launch");
    check_cuda(cudaEventRecord(stop), "cudaEventRecord");
    check_cuda(cudaEventSynchronize(stop), "run");
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, start, stop), "cudaEventElapsedTime");
    // The first run warms up.
    if (i > 0) best = std::min(best, 1e-3 * milliseconds);
  }
  check_cuda(cudaEventDestroy(start), "cudaEventDestroy");
  check_cuda(cudaEventDestroy(stop), "cudaEventDestroy");
  return best;
}

}  // namespace

int main() {
  int processors = 0;
  check_cuda(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0), "no device");
  void *x = nullptr, *y = nullptr;
  check_cuda(cudaMalloc(&x, kBytes), "cudaMalloc");
  check_cuda(cudaMalloc(&y, kBytes), "cudaMalloc");
  check_cuda(cudaMemset(x, 0, kBytes), "cudaMemset");
  const auto blocks = static_cast<unsigned>(16 * processors);
  const double copy = best_seconds([&] {
    copy_kernel<<<blocks, kThreads>>>(static_cast<const float4*>(x), static_cast<float4*>(y),
                                      kBytes / sizeof(float4));
  });
  const double multiply_add = best_seconds(
      [&] { multiply_add_kernel<<<blocks, kThreads>>>(0.999f, 0.001f, static_cast<float*>(y)); });
  const double operations = 2.0 * blocks * kThreads * kChains * kSteps;
  std::printf("{\"gbps\": %.1f, \"gflops\": %.1f}\n", 2e-9 * kBytes / copy, 1e-9 * operations / multiply_add);
  check_cuda(cudaFree(x), "cudaFree");
  check_cuda(cudaFree(y), "cudaFree");
  return 0;
}
