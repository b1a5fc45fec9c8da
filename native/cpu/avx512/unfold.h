// unfold_resize with kernels of 3 and 5, for processors with AVX-512.
#pragma once

#include "core/backend.h"
#include "ops/unfold_resize.h"

namespace glnet::cpu {

/// Whether the processor can, and the op is one of these.
bool unfolds(const UnfoldResize& op);
size_t unfold_workspace_bytes(const UnfoldResize& op, int threads);
void unfold(const UnfoldResize& op, const Context& context);

}  // namespace glnet::cpu
