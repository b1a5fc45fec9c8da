#include "cpu/avx512/panel.h"

#include <cstddef>
#include <cstring>

#include "cpu/avx512/vector.h"

namespace glnet::cpu {
namespace {

/// What differs between the types: a vector of b, an element or a pair of a in all lanes, and their products.
template <class T>
struct Multiply;

template <>
struct Multiply<float> {
  static constexpr int64_t kStep = 1;  ///< elements of a at a time
  GLNET_AVX512 static __m512 load(const float* b) { return _mm512_loadu_ps(b); }
  GLNET_AVX512 static __m512 broadcast(const float* a) { return _mm512_set1_ps(*a); }
  GLNET_AVX512 static __m512 add(__m512 sum, __m512 a, __m512 b) { return _mm512_fmadd_ps(a, b, sum); }
};

template <>
struct Multiply<bfloat16> {
  static constexpr int64_t kStep = 2;
  GLNET_AVX512 static __m512bh load(const bfloat16* b) { return (__m512bh)_mm512_loadu_si512(b); }
  GLNET_AVX512 static __m512bh broadcast(const bfloat16* a) {
    int32_t pair;
    std::memcpy(&pair, a, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
  }
  GLNET_AVX512 static __m512 add(__m512 sum, __m512bh a, __m512bh b) { return _mm512_dpbf16_ps(sum, a, b); }
};

/// sum += the products of `count` elements of a and what of b belongs to them.
template <class T, int kRows, int kVectors>
GLNET_AVX512 [[gnu::always_inline]] inline const T* add_products(const T* const* a, int64_t begin,
                                                                 int64_t end, const T* b,
                                                                 __m512 (&sum)[kRows][kVectors]) {
  constexpr int64_t kStep = Multiply<T>::kStep;
  for (int64_t i = begin; i < end; i += kStep, b += 16 * kVectors * kStep) {
    decltype(Multiply<T>::load(b)) from[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) from[v] = Multiply<T>::load(b + 16 * kStep * v);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto factor = Multiply<T>::broadcast(a[r] + i);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] = Multiply<T>::add(sum[r][v], factor, from[v]);
    }
  }
  return b;
}

template <class T, class Y, int kRows, int kVectors>
GLNET_AVX512 void multiply(const PanelTile& tile) {
  if (tile.fetches) {
    // Rows lie far apart, so that the processor does not foresee them; by the end of the sums they are here.
    constexpr int64_t kLines = (16 * kVectors * static_cast<int64_t>(sizeof(Y)) + 63) / 64;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      for (int64_t i = 0; i < kLines; ++i) {
        if (tile.addend) _mm_prefetch(static_cast<const char*>(tile.addend[r]) + 64 * i, _MM_HINT_T0);
        __builtin_prefetch(static_cast<const char*>(tile.c[r]) + 64 * i, 1);
      }
    }
  }
  __m512 sum[kRows][kVectors];  // filled in a loop: an initialiser would be a fill of memory
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[r][v] = _mm512_setzero_ps();
  }
  for (int64_t t = 0; t < tile.taps; ++t) {
    const T* a[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) a[r] = static_cast<const T*>(tile.a[t * kTileRows + r]);
    const T* b = static_cast<const T*>(tile.b) + t * tile.next_b;
    if (!tile.next) {
      add_products(a, 0, tile.inner, b, sum);
      continue;
    }
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
    for (int64_t line = 0; line < tile.inner; line += kLine) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) _mm_prefetch(static_cast<const T*>(tile.next[r]) + line, _MM_HINT_T0);
      b = add_products(a, line, line + kLine < tile.inner ? line + kLine : tile.inner, b, sum);
    }
  }
  if (!tile.begins) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[r][v] += load16(tile.partial + r * kPanelColumns + 16 * v);
    }
  }
  if (!tile.ends) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) store16(tile.partial + r * kPanelColumns + 16 * v, sum[r][v]);
    }
    return;
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    const __mmask16 mask = first_lanes(tile.columns - 16 * v);
    const __m512 bias = tile.bias ? load16(tile.bias + 16 * v, mask) : _mm512_setzero_ps();
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      __m512 y = _mm512_add_ps(sum[r][v], bias);
      if (tile.addend) y = _mm512_add_ps(y, load16(static_cast<const Y*>(tile.addend[r]) + 16 * v, mask));
      if (tile.relu) y = y > 0 ? y : __m512{};
      store16(static_cast<Y*>(tile.c[r]) + 16 * v, y, mask);
    }
  }
}

template <class T, class Y, int kVectors>
PanelKernel kernel_of(int64_t rows) {
  constexpr PanelKernel kernels[] = {multiply<T, Y, 1, kVectors>, multiply<T, Y, 2, kVectors>,
                                     multiply<T, Y, 3, kVectors>, multiply<T, Y, 4, kVectors>,
                                     multiply<T, Y, 5, kVectors>, multiply<T, Y, 6, kVectors>};
  return kernels[rows - 1];
}

template <class T, class Y>
PanelKernel kernel_of(int64_t rows, int64_t columns) {
  const int64_t vectors = (columns + 15) / 16;
  return vectors == 1   ? kernel_of<T, Y, 1>(rows)
         : vectors == 2 ? kernel_of<T, Y, 2>(rows)
         : vectors == 3 ? kernel_of<T, Y, 3>(rows)
                        : kernel_of<T, Y, 4>(rows);
}

template <class T, int64_t kStep>
void pack(const T* dense, int64_t columns, int64_t inner, int64_t next_column, int64_t next_inner,
          int64_t first, T* packed) {
  const int64_t padded = panel_columns(columns, first), count = columns - first;
  for (int64_t i = 0; i < inner; i += kStep) {
    for (int64_t c = 0; c < padded; ++c) {
      for (int64_t k = 0; k < kStep; ++k)
        *packed++ = c < count ? dense[(first + c) * next_column + (i + k) * next_inner] : T{};
    }
  }
}

}  // namespace

PanelKernel panel_kernel(DType input, DType output, int64_t rows, int64_t columns) {
  if (input == DType::float32) return kernel_of<float, float>(rows, columns);
  return output == DType::float32 ? kernel_of<bfloat16, float>(rows, columns)
                                  : kernel_of<bfloat16, bfloat16>(rows, columns);
}

void multiply_panel(DType input, int64_t rows, int64_t columns, int64_t inner, const void* a, int64_t next_a,
                    const void* b, float* c, int64_t next_c) {
  const int64_t tiles = divide_up(rows, kTileRows), element = static_cast<int64_t>(size_of(input));
  const void* from[kTileRows];
  void* to[kTileRows];
  PanelTile tile;
  tile.columns = columns;
  tile.inner = inner;
  tile.a = from;
  tile.b = b;
  tile.c = to;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t first = rows * i / tiles;
    tile.rows = rows * (i + 1) / tiles - first;
    for (int64_t r = 0; r < tile.rows; ++r) {
      from[r] = static_cast<const std::byte*>(a) + (first + r) * next_a * element;
      to[r] = c + (first + r) * next_c;
    }
    panel_kernel(input, DType::float32, tile.rows, columns)(tile);
  }
}

void pack_panel(DType type, const void* dense, int64_t columns, int64_t inner, int64_t next_column,
                int64_t next_inner, int64_t first, void* packed) {
  if (type == DType::float32) {
    pack<float, 1>(static_cast<const float*>(dense), columns, inner, next_column, next_inner, first,
                   static_cast<float*>(packed));
  } else {
    pack<bfloat16, 2>(static_cast<const bfloat16*>(dense), columns, inner, next_column, next_inner, first,
                      static_cast<bfloat16*>(packed));
  }
}

}  // namespace glnet::cpu
