// The same names from nvcc.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "core/error.h"

// Before a loop whose arrays must stay in registers.
#define UNROLL _Pragma("unroll")

#define SHARED_ARRAY(Type, name, count) __shared__ Type name[count]
#define DYNAMIC_SHARED(Type, name)                                      \
  extern __shared__ __align__(16) unsigned char glnet_dynamic_shared[]; \
  Type* const name = reinterpret_cast<Type*>(glnet_dynamic_shared)

namespace glnet::cuda {

/// Enough blocks to fill any card several times over; loops over the grid do the rest.
constexpr int64_t kMostBlocks = 4096;
/// Patches of one launch, whose corners are parameters of the kernel: 2 of its 4 KB.
constexpr size_t kMostCorners = 256;
/// So few that smaller blocks, and more of them, use a large card better.
constexpr int64_t kBusyBlocks = 264;
/// What an op that can do its work in parts takes of the device's memory for one part.
constexpr int64_t kScratchBytes = 32 << 20;

constexpr const char* kKind = "cuda";

void check_cuda(cudaError_t status, const char* what);

/// Queues a kernel on a stream.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            Arguments&&... arguments) {
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<Parameters>(arguments)...);
  check_cuda(cudaGetLastError(), "launch");
}

/// Lets a kernel have more than 48 KB of dynamic shared memory.
template <class... Parameters>
void allow_shared(void (*kernel)(Parameters...), size_t bytes) {
  check_cuda(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
      "allow_shared");
}

}  // namespace glnet::cuda
