// Elementwise maps: y[i] = f(x[i]...), computed in float.
//
// Threads: each takes four neighbouring elements, in one access of 16 bytes (float32) or 8 (bfloat16), and
// loops over the grid; the last few elements are taken one by one.
#pragma once

#include "cuda/common.cuh"

namespace glnet::cuda {

constexpr int kPack = 4;

template <class T>
struct alignas(kPack * sizeof(T)) Pack {
  T values[kPack];
};

template <class F, class To, class... From>
__global__ void map_kernel(F f, int64_t n, To* y, const From*... x) {
  const int64_t packs = n / kPack;
  for (int64_t i = first_item(); i < packs; i += item_step()) {
    Pack<To> result;
    const auto compute = [&](const Pack<From>&... pack) {
      for (int j = 0; j < kPack; ++j) result.values[j] = To(f(pack.values[j]...));
    };
    compute(reinterpret_cast<const Pack<From>*>(x)[i]...);
    reinterpret_cast<Pack<To>*>(y)[i] = result;
  }
  for (int64_t i = packs * kPack + first_item(); i < n; i += item_step()) y[i] = To(f(x[i]...));
}

/// All pointers are aligned to four elements, as the pool's blocks are.
template <class F, class To, class... From>
void map_elements(const Context& context, F f, int64_t n, To* y, const From*... x) {
  if (n == 0) return;
  launch(map_kernel<F, To, From...>, blocks_for((n + kPack - 1) / kPack), kThreads, 0, stream_of(context), f,
         n, y, x...);
}

}  // namespace glnet::cuda
