// Elementwise maps: bound by memory, so all that matters is to touch each element once and with every thread.
#pragma once

#include "cpu/parallel.h"

namespace glnet::cpu {

/// y[i] = f(inputs[i]...), computed in float.
template <class T, class F, class... Inputs>
void map_elements(int threads, int64_t n, T* y, F f, const Inputs*... inputs) {
  parallel_ranges(threads, n, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = T(f(static_cast<float>(inputs[i])...));
  });
}

}  // namespace glnet::cpu
