#include "cpu/convolutions/direct.h"

#include <omp.h>

#include <cstring>
#include <vector>

#include "cpu/convolutions/code.h"
#include "cpu/convolutions/panel.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

/// Of b at a time. Half of a second-level cache of 512 KB, beside the pixels of a block.
constexpr int64_t kPanelBytes = 192 << 10;
/// Pixels of a block: 16 tiles share what a panel's b costs to read.
constexpr int64_t kBlockPixels = 96;
/// The same where whole rows are handed over and pixels have few channels: what pools them joins rows of two
/// blocks, and so of as few as fit the cache.
constexpr int64_t kHandedPixels = 1024;
/// With fewer channels whole rows of the kernel are taps.
constexpr int64_t kFewChannels = 16;

/// Copies runs of `length` 16-bit values to where each has `room`; what follows a run there becomes zero.
void spread_runs(const uint16_t* from, int64_t runs, int64_t length, int64_t room, uint16_t* to) {
  if (length == 3 && room == 4) {  // an image's pixels: by memcpy this takes as long as the convolution
    for (int64_t i = 0; i < runs; ++i, from += 3, to += 4) {
      const uint64_t pixel = from[0] | uint64_t{from[1]} << 16 | uint64_t{from[2]} << 32;
      std::memcpy(to, &pixel, sizeof pixel);
    }
    return;
  }
  for (int64_t i = 0; i < runs; ++i, from += length, to += room) {
    std::memcpy(to, from, static_cast<size_t>(2 * length));
    std::memset(to + length, 0, static_cast<size_t>(2 * (room - length)));
  }
}

}  // namespace

/// What all blocks share.
struct DirectConvolution::Block {
  const std::byte* x = nullptr;
  const std::byte* zeros = nullptr;
  const std::byte* packed = nullptr;
  const float* bias = nullptr;
  const std::byte* addend = nullptr;
};

DirectConvolution::DirectConvolution(const ConvolutionSpec& spec)
    : Convolution(spec),
      element_(static_cast<int64_t>(size_of(spec.input))),
      out_element_(static_cast<int64_t>(size_of(spec.output))),
      copies_(spec.channels < kFewChannels || (element_ == 2 && spec.channels % 2)),
      pixel_(spec.channels + (element_ == 2 ? spec.channels % 2 : 0)),
      taps_(spec.kernel_height * (copies_ ? 1 : spec.kernel_width)),
      inner_(copies_ ? spec.kernel_width * pixel_ : pixel_),
      blocks_(spec.output_pixels(), spec.by_rows && copies_ ? kHandedPixels : kBlockPixels,
              spec.by_rows ? spec.output_width() : 0, spec.threads) {
  layout_ = "panels";
  const int64_t most = kPanelBytes / (kPanelColumns * element_);  // elements of a row of a
  const int64_t parts = divide_up(inner_, most);
  inner_at_once_ = divide_up(divide_up(inner_, parts), 2) * 2;
  taps_at_once_ = parts > 1 ? 1 : divide_up(taps_, divide_up(taps_ * inner_, most));
}

size_t DirectConvolution::packed_bytes() const {
  const int64_t columns = divide_up(spec_.outputs, 16) * 16;
  return static_cast<size_t>(align(taps_ * inner_ * columns * element_));
}

int64_t DirectConvolution::pointer_bytes() const {
  return align(divide_up(blocks_.largest(), kTileRows) * kTileRows * taps_ *
               static_cast<int64_t>(sizeof(void*)));
}

int64_t DirectConvolution::partial_bytes() const {
  if (taps_at_once_ == taps_ && inner_at_once_ >= inner_) return 0;
  return align(4 * divide_up(blocks_.largest(), kTileRows) * kTileRows * kPanelColumns);
}

/// Of a thread: pointers of all taps of a block, the sums of a panel if they are made in parts, and of all
/// panels if they are handed over.
int64_t DirectConvolution::thread_bytes() const {
  return pointer_bytes() + partial_bytes() +
         (spec_.by_rows ? align(4 * blocks_.largest() * spec_.outputs) : 0);
}

size_t DirectConvolution::workspace_bytes() const {
  const int64_t copy = copies_ ? spec_.batch * padded_height() * padded_width() : 1;  // else zeros
  return static_cast<size_t>(align(copy * pixel_ * element_) + spec_.threads * thread_bytes());
}

void DirectConvolution::pack(const void* dense, void* packed) const {
  parallel_for(omp_get_max_threads(), divide_up(spec_.outputs, kPanelColumns), [&](int64_t i) {
    pack_columns(static_cast<const std::byte*>(dense), i * kPanelColumns,
                 static_cast<std::byte*>(packed) + i * kPanelColumns * taps_ * inner_ * element_);
  });
}

/// The panel of outputs from `first` on.
void DirectConvolution::pack_columns(const std::byte* dense, int64_t first, std::byte* packed) const {
  const int64_t area = spec_.kernel_height * spec_.kernel_width;
  const int64_t panel = panel_columns(spec_.outputs, first);
  if (!copies_) {
    for (int64_t t = 0; t < taps_; ++t)
      pack_panel(spec_.input, dense + t * element_, spec_.outputs, inner_, spec_.channels * area, area, first,
                 packed + t * inner_ * panel * element_);
    return;
  }
  std::vector<std::byte> row(static_cast<size_t>(spec_.outputs * inner_ * element_));
  for (int64_t t = 0; t < taps_; ++t) {
    for (int64_t k = first; k < std::min(first + panel, spec_.outputs); ++k) {
      for (int64_t c = 0; c < spec_.channels; ++c) {
        for (int64_t x = 0; x < spec_.kernel_width; ++x) {
          std::memcpy(row.data() + (k * inner_ + x * pixel_ + c) * element_,
                      dense + ((k * spec_.channels + c) * area + t * spec_.kernel_width + x) * element_,
                      static_cast<size_t>(element_));
        }
      }
    }
    pack_panel(spec_.input, row.data(), spec_.outputs, inner_, inner_, 1, first,
               packed + t * inner_ * panel * element_);
  }
}

/// Copies x with its padding; what pixels of bfloat16 have more is zero.
void DirectConvolution::copy(const std::byte* x, std::byte* to) const {
  const int64_t rows = padded_height(), row = padded_width() * pixel_ * element_,
                margin = spec_.padding_width * pixel_ * element_;
  parallel_ranges(spec_.threads, spec_.batch * rows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t at = i % rows - spec_.padding_height;
      std::byte* line = to + i * row;
      if (at < 0 || at >= spec_.height) {
        std::memset(line, 0, static_cast<size_t>(row));
        continue;
      }
      std::memset(line, 0, static_cast<size_t>(margin));
      std::memset(line + row - margin, 0, static_cast<size_t>(margin));
      const std::byte* from = x + (i / rows * spec_.height + at) * spec_.width * spec_.channels * element_;
      if (pixel_ == spec_.channels) {
        std::memcpy(line + margin, from, static_cast<size_t>(row - 2 * margin));
      } else {
        spread_runs(reinterpret_cast<const uint16_t*>(from), spec_.width, spec_.channels, pixel_,
                    reinterpret_cast<uint16_t*>(line + margin));
      }
    }
  });
}

/// Where the taps of the pixel of y at (row, column) of map `n` lie; those of two pixels are `kTileRows`
/// apart.
void DirectConvolution::point(const Block& block, int64_t n, int64_t row, int64_t column,
                              const void** pointers) const {
  if (copies_) {
    const int64_t line = padded_width() * pixel_ * element_;
    const std::byte* tap = block.x + (n * padded_height() + row * spec_.stride) * line +
                           column * spec_.stride * pixel_ * element_;
    for (int64_t t = 0; t < taps_; ++t, tap += line) pointers[t * kTileRows] = tap;
    return;
  }
  const int64_t top = row * spec_.stride - spec_.padding_height,
                left = column * spec_.stride - spec_.padding_width;
  for (int64_t y = top; y < top + spec_.kernel_height; ++y) {
    for (int64_t x = left; x < left + spec_.kernel_width; ++x, pointers += kTileRows) {
      const bool inside = y >= 0 && y < spec_.height && x >= 0 && x < spec_.width;
      *pointers =
          inside ? block.x + ((n * spec_.height + y) * spec_.width + x) * inner_ * element_ : block.zeros;
    }
  }
}

template <class Body>
void DirectConvolution::for_blocks(Block& block, const void* x, void* workspace, const Body& body) const {
  auto* first = static_cast<std::byte*>(workspace);
  std::byte* scratch = first + static_cast<int64_t>(workspace_bytes()) - spec_.threads * thread_bytes();
  block.x = static_cast<const std::byte*>(x);
  block.zeros = first;
  if (copies_) {
    copy(block.x, first);
    block.x = first;
  } else {
    std::memset(first, 0, static_cast<size_t>(pixel_ * element_));
  }
  parallel_for(spec_.threads, blocks_.count, [&](int64_t i) {
    body(blocks_.begin(i), blocks_.begin(i + 1), scratch + omp_get_thread_num() * thread_bytes());
  });
}

void DirectConvolution::run(const void* x, const void* packed, const float* bias, const void* residual,
                            void* y, void* workspace) const {
  Block block;
  block.packed = static_cast<const std::byte*>(packed);
  block.bias = spec_.bias ? bias : nullptr;
  block.addend = static_cast<const std::byte*>(spec_.accumulate ? y : spec_.residual ? residual : nullptr);
  const int64_t pixel = spec_.outputs * out_element_;
  for_blocks(block, x, workspace, [&](int64_t begin, int64_t end, std::byte* scratch) {
    run_block(begin, end, block, static_cast<std::byte*>(y) + begin * pixel, scratch);
  });
}

void DirectConvolution::run_rows(const void* x, const void* packed, void* workspace,
                                 const TakeRows& take) const {
  Block block;
  block.packed = static_cast<const std::byte*>(packed);
  for_blocks(block, x, workspace, [&](int64_t begin, int64_t end, std::byte* scratch) {
    std::byte* sums = scratch + thread_bytes() - align(4 * blocks_.largest() * spec_.outputs);
    run_block(begin, end, block, sums, scratch);
    take(begin / blocks_.step, end / blocks_.step, reinterpret_cast<const float*>(sums));
  });
}

/// Pixels `begin` to before `end` of y; the first lies at `y`.
void DirectConvolution::run_block(int64_t begin, int64_t end, const Block& block, std::byte* y,
                                  std::byte* scratch) const {
  auto* pointers = reinterpret_cast<const void**>(scratch);
  const int64_t rows = end - begin, tiles = divide_up(rows, kTileRows);
  auto* partial = reinterpret_cast<float*>(scratch + pointer_bytes());
  const auto first_of = [&](int64_t tile) { return rows * tile / tiles; };

  const int64_t width = spec_.output_width(), height = spec_.output_height();
  int64_t column = begin % width, line = begin / width;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    for (int64_t i = first_of(tile); i < first_of(tile + 1); ++i) {
      point(block, line / height, line % height, column,
            pointers + tile * taps_ * kTileRows + i - first_of(tile));
      if (++column == width) column = 0, ++line;
    }
    // A tile may fetch a row more than the next one has.
    const int64_t count = first_of(tile + 1) - first_of(tile);
    const void** row = pointers + tile * taps_ * kTileRows;
    for (int64_t t = 0; count < kTileRows && t < taps_; ++t, row += kTileRows)
      std::fill(row + count, row + kTileRows, row[0]);
  }

  const Code& code = Code::of(spec_.input);
  void* c[kTileRows];
  const void* addend[kTileRows];
  const void* shifted[kTileRows];  // one tap of which a part is done
  const std::byte* b = block.packed;
  for (int64_t output = 0; output < spec_.outputs; output += kPanelColumns) {
    const int64_t panel = panel_columns(spec_.outputs, output);
    PanelTile tile;
    tile.columns = std::min(kPanelColumns, spec_.outputs - output);
    tile.next_b = inner_ * panel;
    tile.bias = block.bias ? block.bias + output : nullptr;
    tile.relu = spec_.relu;
    tile.c = c;
    tile.addend = block.addend ? addend : nullptr;
    for (int64_t t = 0; t < taps_; t += taps_at_once_) {
      tile.taps = std::min(taps_at_once_, taps_ - t);
      for (int64_t k = 0; k < inner_; k += inner_at_once_) {
        tile.inner = std::min(inner_at_once_, inner_ - k);
        tile.b = b + (t * inner_ + k) * panel * element_;
        tile.begins = t == 0 && k == 0;
        tile.ends = t + tile.taps == taps_ && k + tile.inner == inner_;
        for (int64_t i = 0; i < tiles; ++i) {
          const int64_t first = first_of(i);
          tile.rows = first_of(i + 1) - first;
          tile.partial = tile.begins && tile.ends ? nullptr : partial + i * kTileRows * kPanelColumns;
          tile.a = pointers + (i * taps_ + t) * kTileRows;
          if (inner_at_once_ < inner_) {
            for (int64_t r = 0; r < tile.rows; ++r)
              shifted[r] = static_cast<const std::byte*>(tile.a[r]) + k * element_;
            tile.a = shifted;
          }
          if (tile.ends) {
            for (int64_t r = 0; r < tile.rows; ++r) {
              const int64_t at = ((first + r) * spec_.outputs + output) * out_element_;
              c[r] = y + at;
              if (block.addend) addend[r] = block.addend + begin * spec_.outputs * out_element_ + at;
            }
          }
          tile.fetches = tile.ends && !spec_.by_rows;
          tile.next = taps_ == 1 && inner_at_once_ == inner_ && output == 0 && i + 1 < tiles
                          ? pointers + (i + 1) * kTileRows
                          : nullptr;
          code.panel(spec_.input, spec_.output, tile.rows, tile.columns)(tile);
        }
      }
    }
    b += taps_ * inner_ * panel * element_;
  }
}

}  // namespace glnet::cpu
