// The same names from nvcc.
#pragma once

#include <cuda_runtime.h>
#include <mma.h>

#include <cstddef>
#include <cstdint>

#include "core/error.h"

// Before a loop whose arrays must stay in registers.
#define UNROLL _Pragma("unroll")
// The same, by `count` of its steps at a time.
#define UNROLL_BY(count) GLNET_PRAGMA(unroll count)
#define GLNET_PRAGMA(text) _Pragma(#text)

// Aligned for matrices.
#define SHARED_ARRAY(Type, name, count) __shared__ __align__(32) Type name[count]
#define DYNAMIC_SHARED(Type, name)                                      \
  extern __shared__ __align__(32) unsigned char glnet_dynamic_shared[]; \
  Type* const name = reinterpret_cast<Type*>(glnet_dynamic_shared)

namespace glnet::cuda {

/// Enough blocks to fill any card several times over; loops over the grid do the rest.
constexpr int64_t kMostBlocks = 4096;
/// Patches of one launch, whose corners are parameters of the kernel: 2 of its 4 KB.
constexpr size_t kMostCorners = 256;
/// So few that smaller blocks, and more of them, use a large card better.
constexpr int64_t kBusyBlocks = 264;
/// What an op that can do its work in parts takes of the device's memory for one part.
constexpr int64_t scratch_bytes() {
  return 32 << 20;
}

constexpr const char* kKind = "cuda";

void check_cuda(cudaError_t status, const char* what);

/// Queues a kernel on a stream.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            Arguments&&... arguments) {
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
  check_cuda(cudaGetLastError(), "launch");
}

/// Lets a kernel have more than 48 KB of shared memory, of which so much is dynamic.
template <class... Parameters>
void allow_shared(void (*kernel)(Parameters...), size_t bytes) {
  check_cuda(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
      "cudaFuncSetAttribute");
}

/// Whether all devices have tensor cores for bfloat16, which came with compute capability 8.0.
inline bool have_tensor_cores() {
  int count = 0;
  check_cuda(cudaGetDeviceCount(&count), "cudaGetDeviceCount");
  for (int i = 0; i < count; ++i) {
    int major = 0;
    check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, i),
               "cudaDeviceGetAttribute");
    if (major < 8) return false;
  }
  return count > 0;
}

/// A thread's copies of 16 bytes from global to shared memory, in groups, that go on beside its work: see
/// emulator/async_copy.h.
template <class E>
class AsyncCopies {
  static_assert(sizeof(E) == 16);

 public:
  __device__ __forceinline__ void copy(E* to, const E* from, bool inside) const {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                 "r"(inside ? 16 : 0)
                 : "memory");
#else
    *to = inside ? *from : E{};
#endif
  }
  __device__ __forceinline__ void commit() const {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
  }
  template <int kLeft>
  __device__ __forceinline__ void wait() const {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
#endif
  }
};

// Products of 16 x 16 matrices of bfloat16 by a whole warp, summed in float32: see emulator/mma.h. Elements
// of the arrays in shared memory may be structs of several numbers.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
using LeftFragment =
    nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, __nv_bfloat16, nvcuda::wmma::row_major>;
using RightFragment =
    nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, __nv_bfloat16, nvcuda::wmma::col_major>;
using SumFragment = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float>;
using nvcuda::wmma::fill_fragment;
using nvcuda::wmma::mma_sync;

template <class Fragment, class E>
__device__ __forceinline__ void load_matrix_sync(Fragment& to, const E* from, unsigned stride) {
  nvcuda::wmma::load_matrix_sync(to, reinterpret_cast<const __nv_bfloat16*>(from), stride);
}
template <class E>
__device__ __forceinline__ void store_matrix_sync(E* to, const SumFragment& from, unsigned stride) {
  nvcuda::wmma::store_matrix_sync(reinterpret_cast<float*>(to), from, stride, nvcuda::wmma::mem_row_major);
}
#else
// Compiled for older devices too, but never launched there.
struct LeftFragment {};
struct RightFragment {};
struct SumFragment {};
__device__ inline void fill_fragment(SumFragment&, float) {
  __trap();
}
__device__ inline void mma_sync(SumFragment&, const LeftFragment&, const RightFragment&, const SumFragment&) {
  __trap();
}
template <class Fragment, class E>
__device__ void load_matrix_sync(Fragment&, const E*, unsigned) {
  __trap();
}
template <class E>
__device__ void store_matrix_sync(E*, const SumFragment&, unsigned) {
  __trap();
}
#endif

}  // namespace glnet::cuda
