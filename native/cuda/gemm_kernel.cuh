// Multiplies any product in float32: the tiles and the kernel, to be
// included where a product is instantiated. A product, such as Convolution in gemm.cuh, has
//
//   Value                                  the type of the elements
//   kDepthFastest                          whether neighbours along k lie side by side in memory
//   rows(), columns(), steps()             its size, the last in steps of kDepth
//   Rows place_rows(first), Columns ...    what four rows or columns mean
//   Depth depth(step, k)                   what a k means
//   Quad<Value> left(Rows, Depth), right   four elements, zero where there are none
//
// and the sums go to an ending: store(row, column, four of them, how many columns there are from here).
//
// Threads and data: a block computes a tile of y, each thread one or four squares of 4 x 4. k is walked
// through 16 at a time. The next 16 travel through registers into the other half of shared memory while these
// are multiplied: one barrier a step. Loading, 16 neighbouring threads read neighbours along k, or along the
// rows and columns, whichever lie side by side in memory; each reads four rows or columns and stores them as
// one quad. What a tile's rows and columns mean is worked out once, into shared memory.
//
// What bounds: a number is read from shared memory for 2 multiply-adds, for 4 in the largest tile.
#pragma once

#include <type_traits>

#include "cuda/gemm.cuh"

namespace glnet::cuda {

/// What a block computes, in float32: kRowThreads x kColumnThreads threads, each with kQuads x kQuads squares
/// of 4 x 4.
template <int kRowThreads, int kColumnThreads, int kQuads>
struct PlainTile {
  /// Steps of k whose reads may be under way at once. More of the largest tile would spill on sm_100 and
  /// sm_120.
  static constexpr int kUnrolled = kQuads == 1 ? kDepth : 2;
  static constexpr int kThreads = kRowThreads * kColumnThreads;
  static constexpr int kRowQuads = kRowThreads * kQuads, kColumnQuads = kColumnThreads * kQuads;
  // The odd stride spreads the quads that neighbouring threads store over all banks.
  static constexpr int kLeftStride = kRowQuads + 1, kRightStride = kColumnQuads + 1;

  // Thread (r, c) has rows r, r + kRowThreads, ... and columns c, c + kColumnThreads, ... of quads.
  int row, column;
  Quad<float> sums[kQuads][4][kQuads] = {};

  __device__ explicit PlainTile(int thread) : row(thread / kColumnThreads), column(thread % kColumnThreads) {}

  /// One step; the tiles begin at these quads of the arrays.
  template <class Array>
  __device__ __forceinline__ void multiply(Array left, int left_begin, Array right, int right_begin) {
    UNROLL_BY(kUnrolled) for (int k = 0; k < kDepth; ++k) {
      Quad<float> a[kQuads], b[kQuads];
      for (int i = 0; i < kQuads; ++i) {
        a[i] = left[left_begin + k * kLeftStride + row + i * kRowThreads];
        b[i] = right[right_begin + k * kRightStride + column + i * kColumnThreads];
      }
      for (int i = 0; i < kQuads; ++i) {
        for (int r = 0; r < 4; ++r) {
          for (int j = 0; j < kQuads; ++j) {
            for (int c = 0; c < 4; ++c) sums[i][r][j].v[c] += a[i].v[r] * b[j].v[c];
          }
        }
      }
    }
  }

  /// Calls put(row, column, quad) for all of the tile that is the thread's.
  template <class Put>
  __device__ __forceinline__ void finish(Put&& put) {
    UNROLL for (int i = 0; i < kQuads; ++i) {
      UNROLL for (int r = 0; r < 4; ++r) {
        UNROLL for (int j = 0; j < kQuads; ++j) {
          put(4 * (row + i * kRowThreads) + r, 4 * (column + j * kColumnThreads), sums[i][r][j]);
        }
      }
    }
  }
};

/// A processor has registers for two blocks at least, one of which loads while the other multiplies.
/// Left and right tiles lie in shared memory as [depth][quads], `stride` quads apart. Blocks along y take
/// parts of k, where the product has any.
template <class Tile, class Product, class Ending>
__global__ void __launch_bounds__(Tile::kThreads, 2)
    gemm_kernel(Product product, Ending ending, int column_tiles) {
  using Value = typename Product::Value;
  constexpr int kRowQuads = Tile::kRowQuads, kColumnQuads = Tile::kColumnQuads;
  constexpr int kLeft = kDepth * Tile::kLeftStride, kRight = kDepth * Tile::kRightStride;
  constexpr int kLoaders = Tile::kThreads / kDepth;  // threads that read the same k
  constexpr int kLeftLoads = kRowQuads / kLoaders;
  constexpr int kRightLoads = (kColumnQuads + kLoaders - 1) / kLoaders;
  static_assert(kRowQuads % kLoaders == 0 && Tile::kThreads >= kRowQuads + kColumnQuads);
  SHARED_ARRAY(Quad<float>, left, 2 * kLeft);
  SHARED_ARRAY(Quad<float>, right, 2 * kRight);
  SHARED_ARRAY(typename Product::Rows, rows, kRowQuads);
  SHARED_ARRAY(typename Product::Columns, columns, kColumnQuads);

  const auto thread = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
  const int64_t first_row = static_cast<int64_t>(block / column_tiles) * (4 * kRowQuads);
  const int first_column = block % column_tiles * (4 * kColumnQuads);
  if (thread < kRowQuads) {
    rows[thread] = product.place_rows(first_row + 4 * thread);
  } else if (thread < kRowQuads + kColumnQuads) {
    const int quad = thread - kRowQuads;
    columns[quad] = product.place_columns(first_column + 4 * quad);
  }
  __syncthreads();

  const int k = Product::kDepthFastest ? thread % kDepth : thread / kLoaders;
  const int loader = Product::kDepthFastest ? thread / kDepth : thread % kLoaders;
  Quad<float> next_left[kLeftLoads], next_right[kRightLoads];
  const auto load = [&](int step) {
    const typename Product::Depth d = product.depth(step, k);
    for (int i = 0; i < kLeftLoads; ++i) {
      const typename Product::Rows row = rows[loader + i * kLoaders];
      const Quad<Value> quad = product.left(row, d);
      for (int j = 0; j < 4; ++j) next_left[i].v[j] = static_cast<float>(quad.v[j]);
    }
    for (int i = 0; i < kRightLoads; ++i) {
      next_right[i] = {};
      if (loader + i * kLoaders >= kColumnQuads) break;
      const typename Product::Columns column = columns[loader + i * kLoaders];
      const Quad<Value> quad = product.right(column, d);
      for (int j = 0; j < 4; ++j) next_right[i].v[j] = static_cast<float>(quad.v[j]);
    }
  };
  const auto store = [&](int half) {
    for (int i = 0; i < kLeftLoads; ++i) {
      left[half * kLeft + k * Tile::kLeftStride + loader + i * kLoaders] = next_left[i];
    }
    for (int i = 0; i < kRightLoads; ++i) {
      const int quad = loader + i * kLoaders;
      if (quad < kColumnQuads) right[half * kRight + k * Tile::kRightStride + quad] = next_right[i];
    }
  };

  Tile tile(thread);
  const int steps = product.steps();
  load(0);
  store(0);
  __syncthreads();
  for (int step = 0; step < steps; ++step) {
    const int half = step % 2;
    if (step + 1 < steps) load(step + 1);
    tile.multiply(left, half * kLeft, right, half * kRight);
    if (step + 1 < steps) store(1 - half);
    __syncthreads();
  }
  tile.finish([&](int row, int column, const Quad<float>& sums) {
    const int rest = product.columns() - first_column - column;
    if (first_row + row < product.rows() && rest > 0) {
      ending.store(first_row + row, first_column + column, sums, rest);
    }
  });
}

template <class Tile, class Product, class Ending>
void launch_gemm(const Context& context, const Product& product, const Ending& ending, int parts = 1) {
  constexpr int kRows = 4 * Tile::kRowQuads, kColumns = 4 * Tile::kColumnQuads;
  const auto tiles = static_cast<unsigned>(tiles_of(product.rows(), product.columns(), kRows, kColumns));
  launch(gemm_kernel<Tile, Product, Ending>, dim3(tiles, static_cast<unsigned>(parts)), Tile::kThreads, 0,
         stream_of(context), product, ending, (product.columns() + kColumns - 1) / kColumns);
}

/// Whether there are so many large tiles that they keep a card busy.
template <class Product>
bool fills_large_tiles(const Product& product, int parts) {
  return product.columns() > kSquare &&
         tiles_of(product.rows(), product.columns(), kLarge, kLarge) * parts >= kBusyBlocks;
}

/// Multiplies in float32, in tiles of the width that wastes least, and hands the sums to `ending`. `parts` of
/// k are summed by themselves.
template <class Product, class Ending>
void multiply(const Context& context, const Product& product, const Ending& ending, int parts = 1) {
  const int columns = product.columns();
  if (columns <= kThin) return launch_gemm<PlainTile<64, 2, 1>>(context, product, ending, parts);
  if (columns <= kNarrow) return launch_gemm<PlainTile<32, 8, 1>>(context, product, ending, parts);
  if (fills_large_tiles(product, parts)) {
    return launch_gemm<PlainTile<16, 16, 2>>(context, product, ending, parts);
  }
  launch_gemm<PlainTile<16, 16, 1>>(context, product, ending, parts);
}

}  // namespace glnet::cuda
