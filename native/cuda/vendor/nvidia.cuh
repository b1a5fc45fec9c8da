// The same names from nvcc.
#pragma once

#include <cuda_runtime.h>

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
// of the arrays in shared memory may be structs of several numbers. By ldmatrix and mma, since nvcc makes
// single loads of wmma's. Which lane has what: PTX ISA, "Matrix fragments for mma.m16n8k16".
/// Rows of the left matrix, columns of the right one.
template <int>
struct Fragment {
  unsigned parts[4];
};
using LeftFragment = Fragment<0>;
using RightFragment = Fragment<1>;
/// The left and the right 8 columns; of each, two of row lane / 4 and two of the eighth row after it.
struct SumFragment {
  float sums[2][4];
};

__device__ __forceinline__ void fill_fragment(SumFragment& fragment, float value) {
  UNROLL for (int i = 0; i < 2; ++i) {
    UNROLL for (int j = 0; j < 4; ++j) fragment.sums[i][j] = value;
  }
}

/// `stride`: numbers from one line to the next.
template <int kSide, class E>
__device__ __forceinline__ void load_matrix_sync(Fragment<kSide>& to, const E* from, unsigned stride) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  // Eight lanes give the lines of each quarter. Those of the left matrix go down first, of the right one
  // along k.
  const unsigned lane = threadIdx.x % 32, quarter = lane / 8;
  const unsigned below = kSide == 0 ? quarter % 2 : quarter / 2,
                 along = kSide == 0 ? quarter / 2 : quarter % 2;
  const auto begin = static_cast<unsigned>(__cvta_generic_to_shared(from));
  const unsigned at = begin + 2 * ((8 * below + lane % 8) * stride + 8 * along);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to.parts[0]), "=r"(to.parts[1]), "=r"(to.parts[2]), "=r"(to.parts[3])
               : "r"(at)
               : "memory");
#else
  __trap();  // compiled for older devices too, but never launched there
#endif
}

__device__ __forceinline__ void mma_sync(SumFragment& d, const LeftFragment& a, const RightFragment& b,
                                         const SumFragment& c) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
  UNROLL for (int i = 0; i < 2; ++i) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%10, %11, %12, %13};"
        : "=f"(d.sums[i][0]), "=f"(d.sums[i][1]), "=f"(d.sums[i][2]), "=f"(d.sums[i][3])
        : "r"(a.parts[0]), "r"(a.parts[1]), "r"(a.parts[2]), "r"(a.parts[3]), "r"(b.parts[2 * i]),
          "r"(b.parts[2 * i + 1]), "f"(c.sums[i][0]), "f"(c.sums[i][1]), "f"(c.sums[i][2]),
          "f"(c.sums[i][3]));
  }
#else
  __trap();
#endif
}

template <class E>
__device__ __forceinline__ void store_matrix_sync(E* to, const SumFragment& from, unsigned stride) {
  const unsigned lane = threadIdx.x % 32;
  UNROLL for (unsigned i = 0; i < 2; ++i) {
    float* at = reinterpret_cast<float*>(to) + lane / 4 * stride + 8 * i + lane % 4 * 2;
    *reinterpret_cast<float2*>(at) = {from.sums[i][0], from.sums[i][1]};
    *reinterpret_cast<float2*>(at + 8 * stride) = {from.sums[i][2], from.sums[i][3]};
  }
}

}  // namespace glnet::cuda
