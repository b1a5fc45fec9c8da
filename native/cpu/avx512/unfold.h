// unfold_resize of a map on its own grid, for processors with AVX-512.
#pragma once

#include "ops/unfold_resize.h"

namespace glnet::cpu {

/// Computes y, unless the processor cannot or the op is another one; returns whether it did.
bool unfold_plain_map(const UnfoldResize& op, int threads);

}  // namespace glnet::cpu
