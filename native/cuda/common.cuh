// What all kernels share. The dialect, which nvcc and the emulator both take:
//
//   launch(kernel, grid, block, shared_bytes, stream, arguments...)   instead of <<< >>>
//   SHARED_ARRAY(float, tile, 256); DYNAMIC_SHARED(float, rows);      one-dimensional, indexed by integers
//   warp intrinsics with _sync only, no lockstep assumed, masks that name only lanes which are there
//   elements of shared memory are read into a variable of their type, never into `auto`
//
// nvcc needs --expt-relaxed-constexpr, for the constexpr functions of core/ and ops/, and no --use_fast_math:
// divisions and exponentials are tested for their last bits.
#pragma once

#ifdef __CUDACC__
#include "cuda/vendor/nvidia.cuh"
#else
#include "cuda/vendor/emulated.cuh"
#endif

#include <algorithm>
#include <cstdint>

#include "core/backend.h"
#include "core/with_type.h"
#include "cuda/kernels.h"

namespace glnet::cuda {

constexpr int kThreads = 256;

/// Throws what a call of CUDA's runtime returned, if that is an error.
void check_cuda(cudaError_t status, const char* what);

inline cudaStream_t stream_of(const Context& context) {
  return static_cast<cudaStream_t>(context.stream);
}

/// Blocks of kThreads for n items, for kernels that loop over the grid. n is at least 1.
inline unsigned blocks_for(int64_t n) {
  return static_cast<unsigned>(std::min((n + kThreads - 1) / kThreads, kMostBlocks));
}

/// A loop over the grid: for (int64_t i = first_item(); i < n; i += item_step())
__device__ __forceinline__ int64_t first_item() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64_t item_step() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

/// glnet::with_type for this device.
template <class Body>
void with_type(const char* op, DType dtype, Body&& body) {
  glnet::with_type("CUDA", op, dtype, body);
}

/// Calls `body(T{})` with an integer type of a dtype's size, for kernels that only move elements.
template <class Body>
void with_bits(const char* op, DType dtype, Body&& body) {
  switch (size_of(dtype)) {
    case 1:
      return body(uint8_t{});
    case 2:
      return body(uint16_t{});
    case 4:
      return body(uint32_t{});
    default:
      fail(ErrorCode::invalid_argument, op, ": CUDA does not compute in ", name_of(dtype));
  }
}

}  // namespace glnet::cuda
