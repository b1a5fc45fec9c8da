// Sums over the pixels of a map, for each channel.
//
// Two stages, each in a fixed order: no atomics, and the same bits each time. In the first a block takes 32
// neighbouring channels of a part of the pixels: a lane a channel, so that a warp reads 128 bytes of a pixel,
// and a warp every eighth pixel, kRun of them at a time, so that many loads are under way. There are as many
// parts as fill a large card several times. In the second stage a warp adds the parts' sums of a channel.
#pragma once

#include "cuda/reduce.cuh"

namespace glnet::cuda {

constexpr int kLanes = 32;  // channels of a block
constexpr int kRows = kThreads / kLanes;
constexpr int kRun = 8;  // pixels that a thread takes at a time

/// How a map's pixels are cut into parts.
struct ChannelSums {
  int64_t pixels, channels;

  unsigned tiles() const { return static_cast<unsigned>((channels + kLanes - 1) / kLanes); }
  /// Pixels of a part.
  int64_t part() const {
    const int64_t wanted = std::max<int64_t>(4 * kBusyBlocks / tiles(), 1), whole = kRows * kRun;
    return ((pixels + wanted - 1) / wanted + whole - 1) / whole * whole;
  }
  int64_t parts() const { return (pixels + part() - 1) / part(); }
  dim3 grid() const { return {tiles(), static_cast<unsigned>(parts())}; }
  /// Of kSums sums a channel and part.
  size_t bytes(int sums) const { return static_cast<size_t>(sums * channels * parts()) * sizeof(double); }
  /// Blocks for the second stage.
  unsigned finish_blocks() const { return blocks_for(channels * 32); }
};

/// Calls `add(at, step, count)` for each run of a thread's pixels: `count` of them, 1 to kRun, whose values
/// lie at `at`, `at + step`, ...
template <class Add>
__device__ __forceinline__ void each_run(int64_t pixels, int64_t channels, int64_t part, Add add) {
  const int64_t begin = blockIdx.y * part, end = std::min(pixels, begin + part);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kLanes + threadIdx.x % kLanes;
  if (c >= channels) return;
  for (int64_t first = begin + threadIdx.x / kLanes; first < end; first += kRows * kRun) {
    const int64_t left = (end - first + kRows - 1) / kRows;
    add(first * channels + c, kRows * channels, left < kRun ? static_cast<int>(left) : kRun);
  }
}

/// First stage. sums: [kSums, channels, parts]. `term` adds a run to kSums sums; it takes the run's channel
/// too.
template <int kSums, class Term>
__global__ void __launch_bounds__(kThreads)
    part_sums_kernel(Term term, int64_t pixels, int64_t channels, int64_t part, double* sums) {
  SHARED_ARRAY(double, rows, kSums* kThreads);
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kLanes + threadIdx.x % kLanes;
  double totals[kSums] = {};
  each_run(pixels, channels, part,
           [&](int64_t at, int64_t step, int count) { term(totals, c, at, step, count); });
  UNROLL for (int k = 0; k < kSums; ++k) rows[k * kThreads + threadIdx.x] = totals[k];
  __syncthreads();
  if (threadIdx.x >= kLanes || c >= channels) return;
  UNROLL for (int k = 0; k < kSums; ++k) {
    double total = 0;
    for (int row = 0; row < kRows; ++row) {
      const double some = rows[k * kThreads + row * kLanes + threadIdx.x];
      total += some;
    }
    sums[(k * channels + c) * gridDim.y + blockIdx.y] = total;
  }
}

/// The sum of a channel's parts, in each lane. The whole warp must call.
__device__ __forceinline__ double sum_of_parts(const double* sums, int64_t c, int64_t parts) {
  double total = 0;
  for (int64_t i = threadIdx.x % 32; i < parts; i += 32) total += sums[c * parts + i];
  return warp_reduce(total, Plus{});
}

}  // namespace glnet::cuda
