// The transforms of Winograd's convolutions with 3 x 3 kernels (Lavin and Gray 2016, section 4), F(n x n, 3 x
// 3) for tiles of n x n pixels: of a tile of x, of a kernel, and back to a tile of y.
#pragma once

#include <omp.h>

#include <cstdint>
#include <cstring>
#include <memory>

#include "cpu/avx512/panel.h"
#include "cpu/avx512/vector.h"
#include "cpu/convolution.h"
#include "cpu/parallel.h"

namespace glnet::cpu {

/// From the tiles of one product to those of the next: a cache line more, so that all products of a tile do
/// not fall into the same set of the cache.
inline int64_t next_product(int64_t elements, int64_t element) {
  return elements + 64 / element;
}

// A form has the transforms of one row or column: y = B^T x of an input, y = G x of a kernel, y = A^T x of an
// output. `next` and `next_y` are from an element to the next one.

/// Polynomials are interpolated at 0, 1, -1 and infinity.
struct F2 {
  static constexpr int kSide = 2;
  template <class V>
  [[gnu::always_inline]] static inline void input(const V* x, int64_t next, V* y, int64_t next_y) {
    y[0] = x[0] - x[2 * next];
    y[next_y] = x[next] + x[2 * next];
    y[2 * next_y] = x[2 * next] - x[next];
    y[3 * next_y] = x[next] - x[3 * next];
  }
  template <class V>
  [[gnu::always_inline]] static inline void kernel(const V* x, int64_t next, V* y, int64_t next_y) {
    y[0] = x[0];
    y[next_y] = (x[0] + x[next] + x[2 * next]) / 2;
    y[2 * next_y] = (x[0] - x[next] + x[2 * next]) / 2;
    y[3 * next_y] = x[2 * next];
  }
  template <class V>
  [[gnu::always_inline]] static inline void output(const V* x, int64_t next, V* y, int64_t next_y) {
    y[0] = x[0] + x[next] + x[2 * next];
    y[next_y] = x[next] - x[2 * next] - x[3 * next];
  }
};

/// Interpolated at a, -a, b, -b and infinity. Of simple a and b, and of points with 0 as well, these have the
/// smallest rounding errors.
struct F3 {
  static constexpr int kSide = 3;
  static constexpr float kA = 1.0f / 2, kB = 5.0f / 4, kA2 = kA * kA, kB2 = kB * kB;
  template <class V>
  [[gnu::always_inline]] static inline void input(const V* x, int64_t next, V* y, int64_t next_y) {
    const V a = x[3 * next] - kB2 * x[next], b = kA * (x[2 * next] - kB2 * x[0]);
    const V c = x[3 * next] - kA2 * x[next], d = kB * (x[2 * next] - kA2 * x[0]);
    y[0] = a + b;
    y[next_y] = a - b;
    y[2 * next_y] = c + d;
    y[3 * next_y] = c - d;
    y[4 * next_y] = kA2 * kB2 * x[0] - (kA2 + kB2) * x[2 * next] + x[4 * next];
  }
  template <class V>
  [[gnu::always_inline]] static inline void kernel(const V* x, int64_t next, V* y, int64_t next_y) {
    constexpr double kOfA = 1 / (2.0 * kA * (kA2 - kB2)), kOfB = 1 / (2.0 * kB * (kB2 - kA2));
    const V a = kOfA * x[0] + kOfA * kA2 * x[2 * next], b = kOfA * kA * x[next];
    const V c = kOfB * x[0] + kOfB * kB2 * x[2 * next], d = kOfB * kB * x[next];
    y[0] = a + b;
    y[next_y] = b - a;
    y[2 * next_y] = c + d;
    y[3 * next_y] = d - c;
    y[4 * next_y] = x[2 * next];
  }
  template <class V>
  [[gnu::always_inline]] static inline void output(const V* x, int64_t next, V* y, int64_t next_y) {
    const V a = x[0] + x[next], b = x[0] - x[next];
    const V c = x[2 * next] + x[3 * next], d = x[2 * next] - x[3 * next];
    y[0] = a + c;
    y[next_y] = kA * b + kB * d;
    y[2 * next_y] = kA2 * a + kB2 * c + x[4 * next];
  }
};

/// Interpolated at 0, a, -a, b, -b and infinity. With these a and b the rounding errors are half of what they
/// are with 1 and 2.
struct F4 {
  static constexpr int kSide = 4;
  static constexpr float kA = 5.0f / 8, kB = 3.0f / 2, kA2 = kA * kA, kB2 = kB * kB;
  template <class V>
  [[gnu::always_inline]] static inline void input(const V* x, int64_t next, V* y, int64_t next_y) {
    const V a = x[4 * next] - kB2 * x[2 * next], b = kA * (x[3 * next] - kB2 * x[next]);
    const V c = x[4 * next] - kA2 * x[2 * next], d = kB * (x[3 * next] - kA2 * x[next]);
    y[0] = kA2 * kB2 * x[0] - (kA2 + kB2) * x[2 * next] + x[4 * next];
    y[next_y] = a + b;
    y[2 * next_y] = a - b;
    y[3 * next_y] = c + d;
    y[4 * next_y] = c - d;
    y[5 * next_y] = kA2 * kB2 * x[next] - (kA2 + kB2) * x[3 * next] + x[5 * next];
  }
  template <class V>
  [[gnu::always_inline]] static inline void kernel(const V* x, int64_t next, V* y, int64_t next_y) {
    constexpr double kOfA = 1 / (2.0 * kA2 * (kA2 - kB2)), kOfB = 1 / (2.0 * kB2 * (kB2 - kA2));
    const V a = kOfA * x[0] + kOfA * kA2 * x[2 * next], b = kOfA * kA * x[next];
    const V c = kOfB * x[0] + kOfB * kB2 * x[2 * next], d = kOfB * kB * x[next];
    y[0] = 1.0 / (kA2 * kB2) * x[0];
    y[next_y] = a + b;
    y[2 * next_y] = a - b;
    y[3 * next_y] = c + d;
    y[4 * next_y] = c - d;
    y[5 * next_y] = x[2 * next];
  }
  template <class V>
  [[gnu::always_inline]] static inline void output(const V* x, int64_t next, V* y, int64_t next_y) {
    const V a = x[next] + x[2 * next], b = x[next] - x[2 * next];
    const V c = x[3 * next] + x[4 * next], d = x[3 * next] - x[4 * next];
    y[0] = x[0] + a + c;
    y[next_y] = kA * b + kB * d;
    y[2 * next_y] = kA2 * a + kB2 * c;
    y[3 * next_y] = kA2 * kA * b + kB2 * kB * d + x[5 * next];
  }
};

/// Transforms a tile of x: `from` says where its pixels lie; the products' elements are `next` apart in `to`.
template <class F, class T>
GLNET_AVX512 void transform_input(const T* const* from, int64_t channels, T* to, int64_t next) {
  constexpr int kN = F::kSide + 2;
  for (int64_t c = 0; c < channels; c += 16) {
    __m512 x[kN * kN], y[kN * kN];
#pragma GCC unroll 8
    for (int column = 0; column < kN; ++column) {
#pragma GCC unroll 8
      for (int row = 0; row < kN; ++row) x[row * kN + column] = load16(from[row * kN + column] + c);
      F::input(x + column, kN, y + column, kN);
    }
#pragma GCC unroll 8
    for (int row = 0; row < kN; ++row) {
      F::input(y + row * kN, 1, x + row * kN, 1);
#pragma GCC unroll 8
      for (int column = 0; column < kN; ++column)
        store16(to + (row * kN + column) * next + c, x[row * kN + column]);
    }
  }
}

/// The kernels of a panel and one input channel, [9, kPanelColumns], to [products, kPanelColumns]; in double,
/// since these errors would add to those of the products.
template <class F>
GLNET_AVX512 void transform_kernel(const double* from, float* to) {
  constexpr int kN = F::kSide + 2;
  for (int64_t k = 0; k < kPanelColumns; k += 8) {
    __m512d x[9], y[kN * 3], z[kN * kN];
#pragma GCC unroll 8
    for (int i = 0; i < 9; ++i) x[i] = _mm512_loadu_pd(from + i * kPanelColumns + k);
#pragma GCC unroll 8
    for (int column = 0; column < 3; ++column) F::kernel(x + column, 3, y + column, 3);
#pragma GCC unroll 8
    for (int row = 0; row < kN; ++row) F::kernel(y + row * 3, 1, z + row * kN, 1);
#pragma GCC unroll 8
    for (int i = 0; i < kN * kN; ++i)
      _mm256_storeu_ps(to + i * kPanelColumns + k, _mm512_maskz_cvtpd_ps(0xff, z[i]));
  }
}

/// Rows of a panel's b from the products of two channels, [2, next].
GLNET_AVX512 inline void put_rows(const float* products, int64_t next, int64_t panel, float* to) {
  for (int64_t row = 0; row < 2; ++row, products += next) {
    for (int64_t k = 0; k < panel; k += 16, to += 16) store16(to, load16(products + k));
  }
}
GLNET_AVX512 inline void put_rows(const float* products, int64_t next, int64_t panel, bfloat16* to) {
  alignas(64) int16_t order[32];
  for (int16_t i = 0; i < 32; ++i) order[i] = static_cast<int16_t>(i / 2 + i % 2 * 16);
  const __m512i interleaved = _mm512_load_si512(order);
  for (int64_t k = 0; k < panel; k += 16) {
    const __m512bh pairs = _mm512_cvtne2ps_pbh(load16(products + next + k), load16(products + k));
    _mm512_storeu_si512(to + 2 * k, _mm512_maskz_permutexvar_epi16(~0u, interleaved, (__m512i)pairs));
  }
}

/// Packs 3 x 3 kernels for a product by panels: [panels, products, channels, columns of the panel], as a
/// panel's b. The kernel of column k and channel c has kernel(k, c, row, column). Some channels are done at a
/// time: written one by one, the rows of all products would fall into the same sets of the cache.
template <class F, class T, class Kernel>
void pack_kernels(int64_t channels, int64_t columns, T* packed, const Kernel& kernel) {
  constexpr int64_t kN = F::kSide + 2, kProducts = kN * kN, kRow = kProducts * kPanelColumns;
  constexpr int64_t kChannels = 8;
  parallel_for(omp_get_max_threads(), divide_up(columns, kPanelColumns), [&](int64_t i) {
    const int64_t first = i * kPanelColumns, panel = panel_columns(columns, first);
    const int64_t count = std::min(panel, columns - first);
    T* to_panel = packed + first * kProducts * channels;
    double kernels[9 * kPanelColumns] = {};
    const auto products = std::make_unique_for_overwrite<float[]>(2 * kRow);
    const auto block = std::make_unique_for_overwrite<T[]>(kChannels * kRow);
    for (int64_t begin = 0; begin < channels; begin += kChannels) {
      for (int64_t c = 0; c < kChannels; ++c) {
        for (int64_t k = 0; k < count; ++k) {
          for (int64_t t = 0; t < 9; ++t)
            kernels[t * kPanelColumns + k] =
                static_cast<double>(static_cast<float>(kernel(first + k, begin + c, t / 3, t % 3)));
        }
        transform_kernel<F>(kernels, products.get() + c % 2 * kRow);
        for (int64_t p = 0; c % 2 && p < kProducts; ++p) {
          put_rows(products.get() + p * kPanelColumns, kRow, panel,
                   block.get() + (p * kChannels + c - 1) * panel);
        }
      }
      for (int64_t p = 0; p < kProducts; ++p) {
        std::memcpy(to_panel + (p * channels + begin) * panel, block.get() + p * kChannels * panel,
                    static_cast<size_t>(kChannels * panel) * sizeof(T));
      }
    }
  });
}

/// Where the pixels of a tile of `kN` x `kN` at (top, left) of map `map` lie; those outside are `zeros`.
template <int64_t kN, class T>
void point_tile(const ConvolutionSpec& spec, const T* x, const T* zeros, int64_t map, int64_t top,
                int64_t left, const T* (&from)[kN * kN]) {
  for (int64_t row = 0; row < kN; ++row) {
    for (int64_t column = 0; column < kN; ++column) {
      const int64_t at = top + row, pixel = left + column;
      const bool inside = at >= 0 && at < spec.height && pixel >= 0 && pixel < spec.width;
      from[row * kN + column] =
          inside ? x + ((map * spec.height + at) * spec.width + pixel) * spec.channels : zeros;
    }
  }
}

}  // namespace glnet::cpu
