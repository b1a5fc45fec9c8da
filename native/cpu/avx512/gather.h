// The end of an aggregation convolution in bfloat16, for processors with AVX-512.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/term.h"

namespace glnet::cpu::avx512 {

/// y[0 ... n) = relu(addend + the rows of `initial` that are not nullptr + the terms on `base`), summed in
/// float32. `addend` may be nullptr, and may be y.
void gather(bfloat16* y, const float* base, const Term* terms, int count, const Initial& initial,
            const bfloat16* addend, int64_t n, bool relu);

}  // namespace glnet::cpu::avx512
