// The products of tensor_gemm.cuh.
//
// Threads and data: a block of 4 warps computes a tile of the output, a warp a square of it, in fragments of
// 16 x 16. k is walked through 32 at a time, sources outside, then taps, then channels. Steps lie in shared
// memory as lines of 32 ks, rows first, then columns; they arrive by asynchronous copies of 8 channels, the
// next two while one is multiplied: one barrier a step. A thread copies the same 8 ks of some lines, and
// keeps where their pixels lie. Where channels are no multiple of 8, as of the image, numbers are read
// singly.
//
// A product of few tiles and a long k, as the edges of a folded level have, is cut along k too: the parts'
// sums go through memory, and another kernel adds them up, always in the same order.
//
// Bytes: each element of the maps once a tap and column of tiles, weights once a row of tiles, from the L2
// cache; from memory all once. What bounds a large tile: 128 x 128 x 32 multiply-adds a step and 16 KB from
// the L2 cache; 64 x 64 a warp reads 4 KB of shared memory for each 64 x 64 x 16. Floor, for the 3 x 3
// convolution of 6 patches of 127x127x64 to 64, 3.6 G multiply-adds and 25 MB: 7 us of arithmetic on an H100
// (990 TFLOP/s, of which these instructions reach about 60 %), 7.4 us of bytes at 3.35 TB/s.
// Considered: wgmma, of sm_90 alone, which would need a kernel of its own.
#include <cstdlib>
#include <cstring>

#include "cuda/tensor_gemm.cuh"

namespace glnet::cuda {
namespace {

constexpr int kTensorDepth = 32;  ///< how far a step goes along k
constexpr int kStages = 3;        ///< steps in shared memory
constexpr int kOctets = kTensorDepth / 8;
/// Octets of a line: one more spreads the lines over the banks, and keeps fragments at multiples of 32 bytes.
constexpr int kLine = kOctets + 1;
/// So few steps are not worth cutting.
constexpr int kLeastSteps = 8;

/// Eight neighbours along k; at the end four sums.
struct alignas(16) Octet {
  uint16_t v[8];

  __device__ Quad<float> as_quad() const {
    Quad<float> q;
    std::memcpy(&q, v, sizeof q);
    return q;
  }
};

/// kRowWarps x kColumnWarps warps, each with kRowSquares x kColumnSquares squares of 16 x 16. Sums go out
/// through shared memory, since only the hardware knows which of them a lane has.
template <int kRowWarps, int kColumnWarps, int kRowSquares, int kColumnSquares>
struct TensorTile {
  static constexpr int kWarps = kRowWarps * kColumnWarps, kThreads = 32 * kWarps;
  static constexpr int kRows = 16 * kRowWarps * kRowSquares;
  static constexpr int kColumns = 16 * kColumnWarps * kColumnSquares;
  static constexpr int kStage = (kRows + kColumns) * kLine;

  int warp, lane;
  SumFragment sums[kRowSquares][kColumnSquares];

  __device__ explicit TensorTile(int thread) : warp(thread / 32), lane(thread % 32) {
    UNROLL for (int i = 0; i < kRowSquares; ++i) {
      UNROLL for (int j = 0; j < kColumnSquares; ++j) fill_fragment(sums[i][j], 0.0f);
    }
  }
  /// Where a square of the warp begins in the tile.
  __device__ int row_of(int i) const { return 16 * (warp / kColumnWarps * kRowSquares + i); }
  __device__ int column_of(int j) const { return 16 * (warp % kColumnWarps * kColumnSquares + j); }

  /// One step, which begins at this octet.
  template <class Array>
  __device__ __forceinline__ void multiply(Array tiles, int begin) {
    UNROLL for (int k = 0; k < kOctets; k += 2) {
      RightFragment b[kColumnSquares];
      UNROLL for (int j = 0; j < kColumnSquares; ++j) {
        load_matrix_sync(b[j], &tiles[begin + (kRows + column_of(j)) * kLine + k], 8 * kLine);
      }
      UNROLL for (int i = 0; i < kRowSquares; ++i) {
        LeftFragment a;
        load_matrix_sync(a, &tiles[begin + row_of(i) * kLine + k], 8 * kLine);
        UNROLL for (int j = 0; j < kColumnSquares; ++j) mma_sync(sums[i][j], a, b[j], sums[i][j]);
      }
    }
  }

  /// Calls put(row, column, quad) for all of the tile that is the lane's. `tiles` holds the warps' lines of
  /// squares meanwhile.
  template <class Array, class Put>
  __device__ __forceinline__ void finish(Array tiles, Put&& put) {
    constexpr int kSide = 16 * kColumnSquares, kQuads = kSide / 4;
    constexpr int kStride = kQuads + 2;  // spreads the lines over the banks
    static_assert(kWarps * 16 * kStride <= kStages * kStage);
    const int begin = warp * 16 * kStride;
    UNROLL for (int i = 0; i < kRowSquares; ++i) {
      UNROLL for (int j = 0; j < kColumnSquares; ++j) {
        store_matrix_sync(&tiles[begin + 4 * j], sums[i][j], 4 * kStride);
      }
      __syncwarp();
      for (int quad = lane; quad < 16 * kQuads; quad += 32) {
        const Octet bits = tiles[begin + quad / kQuads * kStride + quad % kQuads];
        put(row_of(i) + quad / kQuads, column_of(0) + 4 * (quad % kQuads), bits.as_quad());
      }
      __syncwarp();
    }
  }
};
using Large = TensorTile<2, 2, 4, 4>;
using Medium = TensorTile<2, 2, 4, 2>;
using Small = TensorTile<2, 2, 2, 2>;
using Narrow = TensorTile<4, 1, 2, 2>;

/// A block of each part, along y. `kWhole`: whether channels come in eights.
template <class Tile, bool kWhole, class Ending>
__global__ void __launch_bounds__(Tile::kThreads, 2)
    tensor_gemm_kernel(TensorProduct product, Ending ending, int column_tiles, int part_steps) {
  constexpr int kLines = Tile::kThreads / kOctets;  // that are copied at once
  constexpr int kLeftCopies = Tile::kRows / kLines;
  constexpr int kRightCopies = (Tile::kColumns + kLines - 1) / kLines;
  static_assert(Tile::kRows % kLines == 0);
  DYNAMIC_SHARED(Octet, tiles);

  const auto thread = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
  const int64_t first_row = static_cast<int64_t>(block / column_tiles) * Tile::kRows;
  const int first_column = block % column_tiles * Tile::kColumns;
  const int octet = thread % kOctets, line = thread / kOctets;
  int patch[kLeftCopies], row[kLeftCopies], column[kLeftCopies], begin[kRightCopies];
  UNROLL for (int i = 0; i < kLeftCopies; ++i) {
    product.place(first_row + line + i * kLines, patch[i], row[i], column[i]);
  }
  UNROLL for (int i = 0; i < kRightCopies; ++i) begin[i] = product.begin(first_column + line + i * kLines);

  const int depth = product.depth(), steps = (depth + kTensorDepth - 1) / kTensorDepth;
  const int first_step = static_cast<int>(blockIdx.y) * part_steps;
  const int last_step = std::min(first_step + part_steps, steps);
  AsyncCopies<Octet> copies;
  TensorProduct::Place at = product.locate(first_step * kTensorDepth + 8 * octet);

  const auto copy_whole = [&](int stage) {
    const bool any = at.source < product.count;
    const TensorProduct::Source source = product.sources[any ? at.source : 0];
    UNROLL for (int i = 0; i < kLeftCopies; ++i) {
      const int y = row[i] + at.row, x = column[i] + at.column;
      const bool inside = any && product.inside(y, x);
      const int pixel = patch[i] * source.map_stride + y * product.width + x;
      const bfloat16* from =
          source.x + (inside ? static_cast<int64_t>(pixel) * source.channels + at.channel : 0);
      copies.copy(&tiles[stage * Tile::kStage + (line + i * kLines) * kLine + octet],
                  reinterpret_cast<const Octet*>(from), inside);
    }
    const int tap = at.row * product.row_stride + at.column * product.tap_stride + source.first + at.channel;
    UNROLL for (int i = 0; i < kRightCopies; ++i) {
      if (line + i * kLines >= Tile::kColumns) break;
      const bool inside = any && begin[i] >= 0;
      copies.copy(&tiles[stage * Tile::kStage + (Tile::kRows + line + i * kLines) * kLine + octet],
                  reinterpret_cast<const Octet*>(product.weights + (inside ? begin[i] + tap : 0)), inside);
    }
    product.advance(at, kTensorDepth);
  };
  const auto copy_single = [&](int stage) {
    Octet left[kLeftCopies] = {}, right[kRightCopies] = {};
    UNROLL for (int j = 0; j < 8; ++j) {
      if (at.source == product.count) break;
      const TensorProduct::Source source = product.sources[at.source];
      UNROLL for (int i = 0; i < kLeftCopies; ++i) {
        const int y = row[i] + at.row, x = column[i] + at.column;
        if (!product.inside(y, x)) continue;
        const int pixel = patch[i] * source.map_stride + y * product.width + x;
        left[i].v[j] = source.x[static_cast<int64_t>(pixel) * source.channels + at.channel].bits;
      }
      const int tap =
          at.row * product.row_stride + at.column * product.tap_stride + source.first + at.channel;
      UNROLL for (int i = 0; i < kRightCopies; ++i) {
        if (begin[i] >= 0) right[i].v[j] = product.weights[begin[i] + tap].bits;
      }
      product.advance(at, 1);
    }
    product.advance(at, kTensorDepth - 8);
    UNROLL for (int i = 0; i < kLeftCopies; ++i) {
      tiles[stage * Tile::kStage + (line + i * kLines) * kLine + octet] = left[i];
    }
    UNROLL for (int i = 0; i < kRightCopies; ++i) {
      if (line + i * kLines >= Tile::kColumns) break;
      tiles[stage * Tile::kStage + (Tile::kRows + line + i * kLines) * kLine + octet] = right[i];
    }
  };
  /// A step that there is not is an empty group.
  const auto copy = [&](int step) {
    if (step < last_step) {
      const int stage = (step - first_step) % kStages;
      if constexpr (kWhole) {
        copy_whole(stage);
      } else {
        copy_single(stage);
      }
    }
    copies.commit();
  };

  Tile tile(thread);
  UNROLL for (int i = 0; i < kStages - 1; ++i) copy(first_step + i);
  for (int step = first_step; step < last_step; ++step) {
    copies.template wait<kStages - 2>();
    __syncthreads();
    copy(step + kStages - 1);
    tile.multiply(tiles, (step - first_step) % kStages * Tile::kStage);
  }
  __syncthreads();
  tile.finish(tiles, [&](int row, int column, const Quad<float>& sums) {
    const int rest = product.columns - first_column - column;
    if (first_row + row < product.rows() && rest > 0) {
      ending.store(first_row + row, first_column + column, sums, rest);
    }
  });
}

/// The sums of a part of k: [parts, rows, stride].
struct PartSums {
  float* to;
  int64_t rows;
  int stride;

  __device__ __forceinline__ void store(int64_t row, int column, const Quad<float>& v, int) const {
    write_quad(to + (blockIdx.y * rows + row) * stride + column, v, 4, true);
  }
};

template <class Ending>
__global__ void __launch_bounds__(kThreads)
    add_parts_kernel(PartSums sums, int parts, int columns, Ending ending) {
  const int quads = sums.stride / 4;
  for (int64_t i = first_item(); i < sums.rows * quads; i += item_step()) {
    const int64_t row = i / quads;
    const int column = static_cast<int>(i % quads) * 4;
    Quad<float> sum{};
    for (int part = 0; part < parts; ++part) {
      const Quad<float> more = read_quad(sums.to + (part * sums.rows + row) * sums.stride + column, 4, true);
      for (int j = 0; j < 4; ++j) sum.v[j] += more.v[j];
    }
    ending.store(row, column, sum, columns - column);
  }
}

template <class From>
__global__ void __launch_bounds__(kThreads)
    pack_kernel(const From* from, int64_t n, int channels, int area, From* to) {
  for (int64_t i = first_item(); i < n; i += item_step()) {
    const int channel = static_cast<int>(i % channels), tap = static_cast<int>(i / channels % area);
    to[i] = from[(i / channels / area * channels + channel) * area + tap];
  }
}

int64_t stride_of(int64_t columns) {
  return round_up(columns, 4);
}

template <class Tile, bool kWhole, class Ending>
void launch_tile(const Context& context, const TensorProduct& product, const Ending& ending,
                 const TensorCut& cut) {
  constexpr size_t kBytes = kStages * Tile::kStage * sizeof(Octet);
  const auto kernel = tensor_gemm_kernel<Tile, kWhole, Ending>;
  allow_shared(kernel, kBytes);
  const auto tiles =
      static_cast<unsigned>(tiles_of(product.rows(), product.columns, Tile::kRows, Tile::kColumns));
  launch(kernel, dim3(tiles, static_cast<unsigned>(cut.parts)), Tile::kThreads, kBytes, stream_of(context),
         product, ending, (product.columns + Tile::kColumns - 1) / Tile::kColumns, cut.part_steps);
}

template <class Ending>
void launch_cut(const Context& context, const TensorProduct& product, const Ending& ending,
                const TensorCut& cut) {
  if (!product.octets) return launch_tile<Small, false>(context, product, ending, cut);
  if (cut.tile_columns == Narrow::kColumns) return launch_tile<Narrow, true>(context, product, ending, cut);
  if (cut.tile_columns == Large::kColumns) return launch_tile<Large, true>(context, product, ending, cut);
  if (cut.tile_rows == Medium::kRows) return launch_tile<Medium, true>(context, product, ending, cut);
  launch_tile<Small, true>(context, product, ending, cut);
}

/// What GLNET_TENSOR_CORES says: 0, 1, or -1 for nothing.
int wanted_tensor_cores() {
  const char* text = std::getenv("GLNET_TENSOR_CORES");
  if (text && !std::strcmp(text, "0")) return 0;
  return text && !std::strcmp(text, "1") ? 1 : -1;
}

}  // namespace

void TensorProduct::add(const bfloat16* x, int64_t channels, int64_t map_stride, int64_t first) {
  check(count < kMostSources, "CUDA: a product of more than ", kMostSources, " sources");
  sources[count++] = {x, static_cast<int>(channels), static_cast<int>(map_stride), static_cast<int>(first)};
  octets = octets && channels % 8 == 0 && first % 8 == 0;
}

void TensorProduct::split(int taps, int stride, int channels) {
  split_stride = stride;
  room = channels;
  columns = taps * channels;
}

bool on_tensor_cores(DType dtype) {
  // Read once, on the first call, on the submitting thread: that one may change the environment.
  static const bool wanted = wanted_tensor_cores() < 0 ? have_tensor_cores() : wanted_tensor_cores() == 1;
  return dtype == DType::bfloat16 && wanted;
}

TensorCut tensor_cut(int64_t rows, int64_t columns, int64_t depth) {
  const auto tiles = [&](int tile_rows, int tile_columns) {
    return tiles_of(rows, columns, tile_rows, tile_columns);
  };
  TensorCut cut{Small::kRows, Small::kColumns, 1, 0, 0};
  if (columns <= Narrow::kColumns) {
    cut.tile_rows = Narrow::kRows, cut.tile_columns = Narrow::kColumns;
  } else if (columns > Medium::kColumns && tiles(Large::kRows, Large::kColumns) >= 3 * kBusyBlocks / 4) {
    cut.tile_rows = Large::kRows, cut.tile_columns = Large::kColumns;
  } else if (tiles(Medium::kRows, Medium::kColumns) >= kBusyBlocks / 2) {
    cut.tile_rows = Medium::kRows, cut.tile_columns = Medium::kColumns;
  }
  const int64_t steps = (depth + kTensorDepth - 1) / kTensorDepth;
  const int64_t bytes = rows * stride_of(columns) * 4;
  // As many blocks as keep a card busy, if k is long enough and the sums are small.
  int64_t parts = std::min({kBusyBlocks / std::max<int64_t>(tiles(cut.tile_rows, cut.tile_columns), 1),
                            steps / kLeastSteps, static_cast<int64_t>(scratch_bytes()) / bytes});
  if (parts < 2) parts = 1;
  cut.part_steps = static_cast<int>((steps + parts - 1) / parts);
  cut.parts = static_cast<int>((steps + cut.part_steps - 1) / cut.part_steps);
  if (cut.parts > 1) cut.bytes = static_cast<size_t>(cut.parts * bytes);
  return cut;
}

void pack_tensor_weight(Prepare& prepare, const View& weight) {
  const auto area = static_cast<int>(weight.dim(2) * weight.dim(3));
  if (area == 1) return;
  prepare.pack(weight, "KRSC", weight.bytes(),
               [n = weight.size(), channels = static_cast<int>(weight.dim(1)), area](
                   const Context& context, const void* from, void* to) {
                 launch(pack_kernel<uint16_t>, blocks_for(n), kThreads, 0, stream_of(context),
                        static_cast<const uint16_t*>(from), n, channels, area, static_cast<uint16_t*>(to));
               });
}

template <class Ending>
void tensor_gemm(const Context& context, const TensorProduct& product, const Ending& ending, void* parts) {
  const TensorCut cut = tensor_cut(product.rows(), product.columns, product.depth());
  if (cut.parts == 1) return launch_cut(context, product, ending, cut);
  const PartSums sums{static_cast<float*>(parts), product.rows(),
                      static_cast<int>(stride_of(product.columns))};
  launch_cut(context, product, sums, cut);
  launch(add_parts_kernel<Ending>, blocks_for(sums.rows * sums.stride / 4), kThreads, 0, stream_of(context),
         sums, cut.parts, product.columns, ending);
}

template void tensor_gemm(const Context&, const TensorProduct&, const Finish<bfloat16>&, void*);
template void tensor_gemm(const Context&, const TensorProduct&, const Rows&, void*);

}  // namespace glnet::cuda
