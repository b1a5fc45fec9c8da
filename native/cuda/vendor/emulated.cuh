// CUDA's names for g++, from the emulator.
#pragma once

#include <cmath>

#include "emulator/async_copy.h"
#include "emulator/mma.h"
#include "emulator/runtime.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define UNROLL
#define UNROLL_BY(count)

#define SHARED_ARRAY(Type, name, count)              \
  static_assert(std::is_trivially_copyable_v<Type>); \
  static const char name##_tag = 0;                  \
  const ::glnet::emulator::Shared<Type> name(        \
      ::glnet::emulator::detail::static_array(&name##_tag, sizeof(Type), count))
#define DYNAMIC_SHARED(Type, name) \
  const ::glnet::emulator::Shared<Type> name(::glnet::emulator::detail::dynamic_array(sizeof(Type)))

namespace glnet::cuda {

using namespace ::glnet::emulator;

// So few that small tests take the loops over the grid, and over launches, more than once.
constexpr int64_t kMostBlocks = 7;
constexpr size_t kMostCorners = 2;
constexpr int64_t kBusyBlocks = 4;
/// As large as on a device when it is planned what a device would take.
inline int64_t scratch_bytes() {
  return is_dry() ? 32 << 20 : 1 << 20;
}

constexpr const char* kKind = "emulator";

/// Only where it is planned what a device would take: they are slow to emulate.
inline bool have_tensor_cores() {
  return is_dry();
}

}  // namespace glnet::cuda
