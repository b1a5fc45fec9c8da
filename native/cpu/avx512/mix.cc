#include "cpu/avx512/mix.h"

#include "cpu/avx512/vector.h"

namespace glnet::cpu::avx512 {
namespace {

/// Of pixels x with weights w.
template <int kPixels>
GLNET_AVX512 [[gnu::always_inline]] inline void mix(bfloat16* y, const bfloat16* const (&x)[kPixels],
                                                    const __m512 (&w)[kPixels], int64_t at, __mmask16 lanes) {
  __m512 sum = _mm512_mul_ps(w[kPixels - 1], load16(x[kPixels - 1] + at, lanes));
  if constexpr (kPixels > 1) sum = _mm512_fmadd_ps(w[kPixels - 2], load16(x[kPixels - 2] + at, lanes), sum);
  if constexpr (kPixels == 4) {
    const __m512 upper = _mm512_mul_ps(w[1], load16(x[1] + at, lanes));
    sum = _mm512_add_ps(_mm512_fmadd_ps(w[0], load16(x[0] + at, lanes), upper), sum);
  }
  store16(y + at, sum, lanes);
}

template <int kPixels>
GLNET_AVX512 void mix(bfloat16* y, const bfloat16* const (&x)[kPixels], const float (&weights)[kPixels],
                      int64_t n) {
  __m512 w[kPixels];
  for (int i = 0; i < kPixels; ++i) w[i] = _mm512_set1_ps(weights[i]);
  int64_t at = 0;
  for (; at + 16 <= n; at += 16) mix<kPixels>(y, x, w, at, 0xffff);
  if (at < n) mix<kPixels>(y, x, w, at, first_lanes(n - at));
}

}  // namespace

void mix1(bfloat16* y, const bfloat16* a, float p, int64_t n) {
  mix<1>(y, {a}, {p}, n);
}
void mix2(bfloat16* y, const bfloat16* a, const bfloat16* b, float p, float q, int64_t n) {
  mix<2>(y, {a, b}, {p, q}, n);
}
void mix4(bfloat16* y, const bfloat16* a, const bfloat16* b, const bfloat16* c, const bfloat16* d, float p,
          float q, float r, float s, int64_t n) {
  mix<4>(y, {a, b, c, d}, {p, q, r, s}, n);
}

}  // namespace glnet::cpu::avx512
