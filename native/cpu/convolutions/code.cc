#include "cpu/convolutions/code.h"

#include <cstring>

#ifdef GLNET_X86
#include "cpu/avx512/vector.h"
#endif
#include "cpu/convolutions/forms.h"
#include "cpu/machine.h"

namespace glnet::cpu {
namespace {

#ifdef GLNET_X86
namespace avx512 {

#define VECTORS GLNET_AVX512
#define GLNET_HAS_BFLOAT16
using V = __m512;
constexpr int64_t kLanes = 16;
constexpr int kPanelVectors = 4;  // 24 sums: with four vectors of b and one of a, all registers but three

template <class T>
VECTORS inline V load(const T* from) {
  return load16(from);
}
template <class T>
VECTORS inline V load(const T* from, int64_t count) {
  return load16(from, first_lanes(count));
}
template <class T>
VECTORS inline void store(T* to, V v) {
  store16(to, v);
}
template <class T>
VECTORS inline void store(T* to, V v, int64_t count) {
  store16(to, v, first_lanes(count));
}
VECTORS inline V broadcast(float value) {
  return _mm512_set1_ps(value);
}
VECTORS inline V multiply_add(V sum, V a, V b) {
  return _mm512_fmadd_ps(a, b, sum);
}

template <class T>
struct Multiply;

template <>
struct Multiply<bfloat16> {
  static constexpr int kStep = 2, kParts = 1;
  VECTORS static __m512bh load_b(const bfloat16* b, int) { return (__m512bh)_mm512_loadu_si512(b); }
  VECTORS static __m512bh load_a(const bfloat16* a, int) {
    int32_t pair;
    std::memcpy(&pair, a, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
  }
  VECTORS static V add(V sum, __m512bh a, __m512bh b) { return _mm512_dpbf16_ps(sum, a, b); }
};

VECTORS inline void put_rows(const float* products, int64_t next, int64_t panel, bfloat16* to) {
  alignas(64) int16_t order[32];
  for (int16_t i = 0; i < 32; ++i) order[i] = static_cast<int16_t>(i / 2 + i % 2 * 16);
  const __m512i interleaved = _mm512_load_si512(order);
  for (int64_t k = 0; k < panel; k += 16) {
    const __m512bh pairs = _mm512_cvtne2ps_pbh(load(products + next + k), load(products + k));
    _mm512_storeu_si512(to + 2 * k, _mm512_maskz_permutexvar_epi16(~0u, interleaved, (__m512i)pairs));
  }
}

#include "cpu/convolutions/target_inl.h"

#undef VECTORS
#undef GLNET_HAS_BFLOAT16
}  // namespace avx512

namespace avx2 {

#define VECTORS __attribute__((target("avx2,fma")))
using V = __m256;
constexpr int64_t kLanes = 8;
constexpr int kPanelVectors = 2;  // 12 sums: with two vectors of b and one of a, all registers but one

VECTORS inline __m256i first_lanes(int64_t n) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lanes);
}
VECTORS inline V load(const float* from) {
  return _mm256_loadu_ps(from);
}
VECTORS inline V load(const float* from, int64_t count) {
  if (count >= kLanes) return load(from);
  return count <= 0 ? _mm256_setzero_ps() : _mm256_maskload_ps(from, first_lanes(count));
}
VECTORS inline void store(float* to, V v) {
  _mm256_storeu_ps(to, v);
}
VECTORS inline void store(float* to, V v, int64_t count) {
  if (count >= kLanes) return store(to, v);
  if (count > 0) _mm256_maskstore_ps(to, first_lanes(count), v);
}
VECTORS inline V broadcast(float value) {
  return _mm256_set1_ps(value);
}
VECTORS inline V multiply_add(V sum, V a, V b) {
  return _mm256_fmadd_ps(a, b, sum);
}

#include "cpu/convolutions/target_inl.h"

#undef VECTORS
}  // namespace avx2
#endif

/// For any processor: compilers know vectors of four.
namespace baseline {

#define VECTORS
using V = float __attribute__((vector_size(16)));
constexpr int64_t kLanes = 4;
constexpr int kPanelVectors = 2;

inline V load(const float* from) {
  V v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
inline V load(const float* from, int64_t count) {
  if (count >= kLanes) return load(from);
  V v{};
  if (count > 0) std::memcpy(&v, from, 4 * static_cast<size_t>(count));
  return v;
}
inline void store(float* to, V v) {
  std::memcpy(to, &v, sizeof v);
}
inline void store(float* to, V v, int64_t count) {
  if (count >= kLanes) return store(to, v);
  if (count > 0) std::memcpy(to, &v, 4 * static_cast<size_t>(count));
}
inline V broadcast(float value) {
  return V{value, value, value, value};
}
inline V multiply_add(V sum, V a, V b) {
  return sum + a * b;
}

#include "cpu/convolutions/target_inl.h"

#undef VECTORS
}  // namespace baseline

}  // namespace

const Code& Code::of(DType type) {
#ifdef GLNET_X86
  static const bool wide[] = {has_avx512(), has_bfloat16()}, has_256 = has_avx2();
  if (wide[type == DType::bfloat16]) return avx512::code();
  if (has_256) return avx2::code();
#endif
  return baseline::code();
}

}  // namespace glnet::cpu
