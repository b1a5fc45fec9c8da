// The register tile of the own convolutions: a few rows times a panel of columns, summed up in registers over
// the whole inner length, or some columns of it where registers are fewer (target_inl.h).
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/dtype.h"

namespace glnet::cpu {

constexpr int64_t kPanelColumns = 64;  ///< four sixteens
constexpr int64_t kTileRows = 6;

constexpr int64_t divide_up(int64_t n, int64_t by) {
  return (n + by - 1) / by;
}
/// To whole cache lines.
constexpr int64_t align(int64_t bytes) {
  return divide_up(bytes, 64) * 64;
}

/// Rows of a product, shared out in blocks: of at most about `most` rows and at least a tile's, or of whole
/// steps of rows that stay together. Threads have as many blocks, of much the same size.
struct Blocks {
  int64_t step, steps;
  int64_t count;

  Blocks(int64_t rows, int64_t most, int64_t together, int threads)
      : step(std::max<int64_t>(together, 1)), steps(rows / step) {
    count = divide_up(divide_up(steps, std::max<int64_t>(most / step, 1)), threads) * threads;
    count = std::min(count, together ? steps : divide_up(steps, kTileRows));
  }
  /// The first row of a block, or the end of the last one.
  int64_t begin(int64_t block) const { return steps * block / count * step; }
  /// Rows of the largest.
  int64_t largest() const { return divide_up(steps, count) * step; }
};

/// How many of `columns` the panel from `first` on has, in whole sixteens: what is packed of it.
constexpr int64_t panel_columns(int64_t columns, int64_t first) {
  const int64_t rest = columns - first < kPanelColumns ? columns - first : kPanelColumns;
  return (rest + 15) / 16 * 16;
}

/// c [rows, columns] = relu(partial + sum over taps t of a_t [rows, inner] b_t [inner, columns] + bias +
/// addend).
struct PanelTile {
  int64_t rows = 0;     ///< 1 ... kTileRows
  int64_t columns = 0;  ///< 1 ... kPanelColumns
  int64_t taps = 1;
  int64_t inner = 0;               ///< even in bfloat16
  const void* const* a = nullptr;  ///< [taps, kTileRows]: where the rows lie
  const void* b =
      nullptr;         ///< packed: [inner, vectors of columns]; bfloat16 in pairs, [inner / 2, columns, 2]
  int64_t next_b = 0;  ///< elements from a tap's b to the next one's
  float* partial = nullptr;             ///< [rows, kPanelColumns]; nullptr: the tile is done at once
  bool begins = true;                   ///< nothing is in `partial` yet
  bool ends = true;                     ///< c is written; else `partial`
  void* const* c = nullptr;             ///< rows
  const float* bias = nullptr;          ///< or nullptr
  const void* const* addend = nullptr;  ///< rows of c's type, or nullptr; may be c
  bool relu = false;
  bool fetches = false;  ///< what the tile reads and writes at its end lies far apart: fetch it before
  const void* const* next = nullptr;  ///< or nullptr: kTileRows rows to fetch meanwhile, with one tap
};

using PanelKernel = void (*)(const PanelTile&);

/// c [rows, columns of the panel] = a [rows, inner] b, of any number of rows, which are `next_a` and `next_c`
/// elements apart; `columns` whole sixteens, c in float32.
void multiply_panel(DType input, int64_t rows, int64_t columns, int64_t inner, const void* a, int64_t next_a,
                    const void* b, float* c, int64_t next_c);

/// Packs a dense [columns, inner] matrix, whose columns are `next_column` elements apart and whose inner
/// elements `next_inner`, for the panel of columns from `first` on, as `PanelTile::b`. Columns past the last
/// are zero.
void pack_panel(DType type, const void* dense, int64_t columns, int64_t inner, int64_t next_column,
                int64_t next_inner, int64_t first, void* packed);

}  // namespace glnet::cpu
