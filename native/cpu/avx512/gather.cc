#include "cpu/avx512/gather.h"

#include "cpu/avx512/vector.h"

namespace glnet::cpu::avx512 {
namespace {

template <int kVectors>
GLNET_AVX512 [[gnu::always_inline]] inline void gather_block(bfloat16* y, const float* base,
                                                             const Term* terms, int count,
                                                             const Initial& initial, const bfloat16* addend,
                                                             int64_t at, bool relu, __mmask16 lanes) {
  __m512 sum[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v)
    sum[v] = addend ? load16(addend + at + 16 * v, lanes) : _mm512_setzero_ps();
  for (const float* row : initial) {
    if (!row) continue;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[v] += load16(row + at + 16 * v, lanes);
  }
  for (int t = 0; t < count; ++t) {
    const __m512 weight = _mm512_set1_ps(terms[t].weight);
    const float* from = base + terms[t].offset + at;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[v] = _mm512_fmadd_ps(weight, load16(from + 16 * v, lanes), sum[v]);
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v)
    store16(y + at + 16 * v, relu ? (sum[v] < 0 ? __m512{} : sum[v]) : sum[v], lanes);
}

}  // namespace

GLNET_AVX512 void gather(bfloat16* y, const float* base, const Term* terms, int count, const Initial& initial,
                         const bfloat16* addend, int64_t n, bool relu) {
  int64_t at = 0;
  for (; at + 128 <= n; at += 128) gather_block<8>(y, base, terms, count, initial, addend, at, relu, 0xffff);
  for (; at < n; at += 16)
    gather_block<1>(y, base, terms, count, initial, addend, at, relu, first_lanes(n - at));
}

}  // namespace glnet::cpu::avx512
