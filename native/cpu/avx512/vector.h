// What the own kernels for AVX-512 are compiled with, whatever the rest is compiled for, and what they share.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/dtype.h"

// One target for float32 and bfloat16, so that templates serve both: compilers use avx512bf16 where it is
// asked for only, and code for float32 does not ask.
#define GLNET_AVX512 \
  __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,prefer-vector-width=512")))

namespace glnet::cpu {

/// The first n of 16 lanes.
inline __mmask16 first_lanes(int64_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffff : (1u << n) - 1);
}

/// 16 elements as float32, those of `mask`; the others are zero.
GLNET_AVX512 inline __m512 load16(const float* from, __mmask16 mask = 0xffff) {
  return _mm512_maskz_loadu_ps(mask, from);
}
GLNET_AVX512 inline __m512 load16(const bfloat16* from, __mmask16 mask = 0xffff) {
  const __m256i bits = _mm256_maskz_loadu_epi16(mask, from);
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, bits), 16));
}

GLNET_AVX512 inline void store16(float* to, __m512 v, __mmask16 mask = 0xffff) {
  _mm512_mask_storeu_ps(to, mask, v);
}
GLNET_AVX512 inline void store16(bfloat16* to, __m512 v, __mmask16 mask = 0xffff) {
  _mm256_mask_storeu_epi16(to, mask, (__m256i)_mm512_cvtneps_pbh(v));
}

}  // namespace glnet::cpu
