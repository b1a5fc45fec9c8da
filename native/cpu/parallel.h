// Loops over threads and element types, shared by the CPU kernels.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/with_type.h"

// Compiles a hot function for several instruction sets; the loader picks one. Not under sanitizers, whose
// runtime is not up yet when the loader asks; nor where the loader (musl) or the compiler does not know how.
#if defined(__x86_64__) && defined(__GLIBC__) && __GNUC__ >= 12 && !defined(__clang__) && \
    !defined(GLNET_SANITIZE)
#define GLNET_MULTIVERSION __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define GLNET_MULTIVERSION
#endif

namespace glnet::cpu {

/// Calls `body(begin, end)` on parts of 0 ... n, one for each thread. `body` must not throw.
template <class Body>
void parallel_ranges(int threads, int64_t n, Body&& body) {
  const int64_t parts = std::min<int64_t>(threads, n);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int64_t part = 0; part < parts; ++part) body(n * part / parts, n * (part + 1) / parts);
}

/// Calls `body(i)` for each i of 0 ... n, shared out over the threads as they come free. `body` must not
/// throw.
template <class Body>
void parallel_for(int threads, int64_t n, Body&& body) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (int64_t i = 0; i < n; ++i) body(i);
}

/// glnet::with_type for this device.
template <class Body>
void with_type(const char* op, DType dtype, Body&& body) {
  glnet::with_type("the CPU", op, dtype, body);
}

}  // namespace glnet::cpu
