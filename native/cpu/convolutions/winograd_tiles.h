// Winograd's tiles, whatever becomes of them: how their pixels are found and their kernels packed.
#pragma once

#include <omp.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <type_traits>

#include "cpu/convolution.h"
#include "cpu/convolutions/code.h"
#include "cpu/convolutions/panel.h"
#include "cpu/parallel.h"

namespace glnet::cpu {

/// From the tiles of one product to those of the next: a cache line more, so that all products of a tile do
/// not fall into the same set of the cache.
inline int64_t next_product(int64_t elements, int64_t element) {
  return elements + 64 / element;
}

/// Packs 3 x 3 kernels for a product by panels: [panels, products, channels, columns of the panel], as a
/// panel's b. The kernel of column k and channel c has kernel(k, c, row, column). Some channels are done at a
/// time: written one by one, the rows of all products would fall into the same sets of the cache.
template <class F, class T, class Kernel>
void pack_kernels(int64_t channels, int64_t columns, T* packed, const Kernel& kernel) {
  constexpr int64_t kN = F::kSide + 2, kProducts = kN * kN, kRow = kProducts * kPanelColumns;
  constexpr int64_t kChannels = 8;
  const Code& code = Code::of(std::is_same_v<T, float> ? DType::float32 : DType::bfloat16);
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
        code.kernel[F::kSide - 2](kernels, products.get() + c % 2 * kRow);
        for (int64_t p = 0; c % 2 && p < kProducts; ++p) {
          code.with<T>().put_rows(products.get() + p * kPanelColumns, kRow, panel,
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
