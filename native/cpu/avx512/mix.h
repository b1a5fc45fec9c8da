// Weighted sums of pixels in bfloat16, for processors with AVX-512 for it: without, most of the time goes
// into rounding. Subnormal numbers become zero.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace glnet::cpu::avx512 {

/// y[0 ... n) = p a
void mix1(bfloat16* y, const bfloat16* a, float p, int64_t n);
/// y[0 ... n) = p a + q b
void mix2(bfloat16* y, const bfloat16* a, const bfloat16* b, float p, float q, int64_t n);
/// y[0 ... n) = (p a + q b) + (r c + s d)
void mix4(bfloat16* y, const bfloat16* a, const bfloat16* b, const bfloat16* c, const bfloat16* d, float p,
          float q, float r, float s, int64_t n);

}  // namespace glnet::cpu::avx512
