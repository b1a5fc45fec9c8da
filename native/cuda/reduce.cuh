// Reductions over a warp and over a block.
#pragma once

#include "cuda/common.cuh"

namespace glnet::cuda {

struct Larger {
  __device__ float operator()(float a, float b) const { return b > a ? b : a; }
};
struct Plus {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

/// The reduction over all 32 lanes, in each of them. The whole warp must call.
template <class T, class F>
__device__ T warp_reduce(T value, F f) {
  for (int lanes = warpSize / 2; lanes > 0; lanes /= 2) {
    value = f(value, __shfl_xor_sync(0xffffffffu, value, lanes));
  }
  return value;
}

/// The reduction over a block of kThreads, in each of its threads. All must call.
template <class T, class F>
__device__ T block_reduce(T value, F f) {
  constexpr int kWarps = kThreads / 32;
  SHARED_ARRAY(T, parts, kWarps);
  value = warp_reduce(value, f);
  if (threadIdx.x % warpSize == 0) parts[threadIdx.x / warpSize] = value;
  __syncthreads();
  value = parts[0];
  for (int i = 1; i < kWarps; ++i) {
    const T part = parts[i];
    value = f(value, part);
  }
  // The next reduction writes the parts again.
  __syncthreads();
  return value;
}

}  // namespace glnet::cuda
