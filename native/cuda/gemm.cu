// Matrix products for convolutions: y[m, n] = sum over k of left[m, k] right[k, n] in float32, where m counts
// the pixels of the output, n its channels and k pairs of input channel and tap. The left matrix is never
// built: its elements are read from NHWC maps where a tap meets them, zero where it steps outside. The right
// one is read from weights as checkpoints have them, [K, C, kh, kw].
//
// Threads and data: a block computes a tile of y, each thread one or four squares of 4 x 4. k is walked
// through 16 at a time: chunks of 16 channels outside, taps inside, so that the strided reads of a chunk's
// weights meet the same lines tap after tap; where there are fewer channels than that, channels and taps
// together. The next 16 travel through registers into the other half of shared memory while these are
// multiplied: one barrier a step. Loading, 16 neighbouring threads read 16 neighbouring channels of a pixel
// or of an output; each reads four rows or columns and stores them as one quad. What positions and weights a
// tile's rows and columns mean is worked out once, into shared memory.
//
// With GLNET_TENSOR_CORES in the environment bfloat16 is multiplied by tensor cores if it is 1, never if it
// is 0; by default it is where the device has them, but not on the emulator. What bounds: the plain version
// reads a number from shared memory for 2 multiply-adds, for 4 in its largest tile; that of the tensor cores
// reads single numbers from global memory, 16 a thread and step. Considered: steps of 32 for tensor cores,
// which spills registers in their largest tile. Bytes and floors: see conv2d.cu and aggregate_conv.cu. Left:
// reading 8 channels of a pixel at once; cp.async, which needs no registers; wgmma, of sm_90 alone.
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "cuda/gemm.cuh"

namespace glnet::cuda {
namespace {

/// What a block computes, in float32: kRowThreads x kColumnThreads threads, each with kQuads x kQuads squares
/// of 4 x 4.
template <int kRowThreads, int kColumnThreads, int kQuads>
struct PlainTile {
  using Element = float;  ///< in shared memory
  /// Steps of k whose reads may be under way at once. More of the largest tile would spill on sm_100 and
  /// sm_120.
  static constexpr int kUnrolled = kQuads == 1 ? kDepth : 2;
  static constexpr int kThreads = kRowThreads * kColumnThreads;
  static constexpr int kRowQuads = kRowThreads * kQuads, kColumnQuads = kColumnThreads * kQuads;
  // The odd stride spreads the quads that neighbouring threads store over all banks.
  static constexpr int kLeftStride = kRowQuads + 1, kRightStride = kColumnQuads + 1;

  template <class T>
  static __device__ Element element(T value) {
    return static_cast<float>(value);
  }

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

/// The same on tensor cores, of bfloat16: kRowWarps x kColumnWarps warps, each with kRowSquares x
/// kColumnSquares squares of 16 x 16. Sums go out through shared memory, since only the hardware knows which
/// of them a lane has.
template <int kRowWarps, int kColumnWarps, int kRowSquares, int kColumnSquares>
struct TensorTile {
  using Element = uint16_t;
  static constexpr int kWarps = kRowWarps * kColumnWarps, kThreads = 32 * kWarps;
  static constexpr int kRowQuads = 4 * kRowWarps * kRowSquares;
  static constexpr int kColumnQuads = 4 * kColumnWarps * kColumnSquares;
  // 16 bytes more than the tile's side, so that the 16 lines of a square do not begin in the same bank.
  static constexpr int kLeftStride = kRowQuads + 2, kRightStride = kColumnQuads + 2;

  static __device__ Element element(bfloat16 value) { return value.bits; }

  int warp, lane;
  SumFragment sums[kRowSquares][kColumnSquares];

  __device__ explicit TensorTile(int thread) : warp(thread / 32), lane(thread % 32) {
    UNROLL for (int i = 0; i < kRowSquares; ++i) {
      UNROLL for (int j = 0; j < kColumnSquares; ++j) fill_fragment(sums[i][j], 0.0f);
    }
  }
  /// Where a square of the warp begins in the tile, in quads.
  __device__ int row_of(int i) const { return 4 * (warp / kColumnWarps * kRowSquares + i); }
  __device__ int column_of(int j) const { return 4 * (warp % kColumnWarps * kColumnSquares + j); }

  template <class Array>
  __device__ __forceinline__ void multiply(Array left, int left_begin, Array right, int right_begin) {
    static_assert(kDepth == 16);
    LeftFragment a;
    RightFragment b[kColumnSquares];
    UNROLL for (int j = 0; j < kColumnSquares; ++j) {
      load_matrix_sync(b[j], &right[right_begin + column_of(j)], 4 * kRightStride);
    }
    UNROLL for (int i = 0; i < kRowSquares; ++i) {
      load_matrix_sync(a, &left[left_begin + row_of(i)], 4 * kLeftStride);
      UNROLL for (int j = 0; j < kColumnSquares; ++j) mma_sync(sums[i][j], a, b[j], sums[i][j]);
    }
  }

  template <class Put>
  __device__ __forceinline__ void finish(Put&& put) {
    constexpr int kStride = 5;  // quads: 4 of a line, and one that spreads lines over the banks
    constexpr int kSquare = 16 * kStride;
    SHARED_ARRAY(Quad<float>, squares, kWarps * kSquare);
    UNROLL for (int i = 0; i < kRowSquares; ++i) {
      UNROLL for (int j = 0; j < kColumnSquares; ++j) {
        store_matrix_sync(&squares[warp * kSquare], sums[i][j], 4 * kStride);
        __syncwarp();
        for (int quad = lane; quad < 64; quad += 32) {
          const Quad<float> q = squares[warp * kSquare + quad / 4 * kStride + quad % 4];
          put(4 * row_of(i) + quad / 4, 4 * (column_of(j) + quad % 4), q);
        }
        __syncwarp();
      }
    }
  }
};

/// A processor has registers for two blocks at least, one of which loads while the other multiplies.
/// Left and right tiles lie in shared memory as [depth][quads], `stride` quads apart.
template <class Tile, class T, class Ending>
__global__ void __launch_bounds__(Tile::kThreads, 2)
    gemm_kernel(Maps<T> maps, Weights<T> weights, Ending ending, int column_tiles) {
  using Element = typename Tile::Element;
  constexpr int kRowQuads = Tile::kRowQuads, kColumnQuads = Tile::kColumnQuads;
  constexpr int kLeft = kDepth * Tile::kLeftStride, kRight = kDepth * Tile::kRightStride;
  constexpr int kLoaders = Tile::kThreads / kDepth;  // threads that read the same k
  constexpr int kLeftLoads = kRowQuads / kLoaders;
  constexpr int kRightLoads = (kColumnQuads + kLoaders - 1) / kLoaders;
  static_assert(kRowQuads % kLoaders == 0 && Tile::kThreads >= kRowQuads + kColumnQuads);
  SHARED_ARRAY(Quad<Element>, left, 2 * kLeft);
  SHARED_ARRAY(Quad<Element>, right, 2 * kRight);
  SHARED_ARRAY(Quad<int>, pixels, kRowQuads);
  SHARED_ARRAY(Quad<int>, pixel_rows, kRowQuads);
  SHARED_ARRAY(Quad<int>, pixel_columns, kRowQuads);
  SHARED_ARRAY(Quad<int>, begins, kColumnQuads);

  const auto thread = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
  const int64_t first_row = static_cast<int64_t>(block / column_tiles) * (4 * kRowQuads);
  const int first_column = block % column_tiles * (4 * kColumnQuads);
  if (thread < kRowQuads) {
    Quad<int> pixel, row, column;
    for (int i = 0; i < 4; ++i) {
      maps.place(first_row + 4 * thread + i, pixel.v[i], row.v[i], column.v[i]);
    }
    pixels[thread] = pixel;
    pixel_rows[thread] = row;
    pixel_columns[thread] = column;
  } else if (thread < kRowQuads + kColumnQuads) {
    const int quad = thread - kRowQuads;
    Quad<int> begin;
    for (int i = 0; i < 4; ++i) begin.v[i] = weights.place(first_column + 4 * quad + i);
    begins[quad] = begin;
  }
  __syncthreads();

  const int k = thread % kDepth, loader = thread / kDepth;
  Quad<Element> next_left[kLeftLoads], next_right[kRightLoads];
  const auto load = [&](int step) {
    const Depth d = maps.depth(step, k);
    for (int i = 0; i < kLeftLoads; ++i) {
      const int quad = loader + i * kLoaders;
      const Quad<int> pixel = pixels[quad], row = pixel_rows[quad], column = pixel_columns[quad];
      for (int j = 0; j < 4; ++j) {
        next_left[i].v[j] = Tile::element(maps.read(pixel.v[j], row.v[j], column.v[j], d));
      }
    }
    for (int i = 0; i < kRightLoads; ++i) {
      const int quad = loader + i * kLoaders;
      if (quad >= kColumnQuads) break;
      const Quad<int> begin = begins[quad];
      for (int j = 0; j < 4; ++j) {
        next_right[i].v[j] = Tile::element(weights.read(begin.v[j], d, maps.channels));
      }
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
  const int steps = maps.steps();
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
    const int rest = weights.columns - first_column - column;
    if (first_row + row < maps.rows() && rest > 0) {
      ending.store(first_row + row, first_column + column, sums, rest);
    }
  });
}

template <class Tile, class T, class Ending>
void launch_gemm(const Context& context, const Maps<T>& maps, const Weights<T>& weights,
                 const Ending& ending) {
  constexpr int kRows = 4 * Tile::kRowQuads, kColumns = 4 * Tile::kColumnQuads;
  const int column_tiles = (weights.columns + kColumns - 1) / kColumns;
  const int64_t tiles = (maps.rows() + kRows - 1) / kRows * column_tiles;
  launch(gemm_kernel<Tile, T, Ending>, static_cast<unsigned>(tiles), Tile::kThreads, 0, stream_of(context),
         maps, weights, ending, column_tiles);
}

/// What GLNET_TENSOR_CORES says: 0, 1, or -1 for nothing. Read once, on the first call.
int wanted_tensor_cores() {
  static const int wanted = [] {
    const char* text = std::getenv("GLNET_TENSOR_CORES");
    if (text && !std::strcmp(text, "0")) return 0;
    return text && !std::strcmp(text, "1") ? 1 : -1;
  }();
  return wanted;
}

}  // namespace

template <class T, class Ending>
void gemm(const Context& context, const Maps<T>& maps, const Weights<T>& weights, const Ending& ending) {
  const int columns = weights.columns;
  const int64_t large_tiles = (maps.rows() + kLarge - 1) / kLarge * ((columns + kLarge - 1) / kLarge);
  const bool large = columns > kSquare && large_tiles >= kBusyBlocks;
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (tensor_cores(wanted_tensor_cores(), gemm_kernel<TensorTile<2, 4, 2, 1>, T, Ending>)) {
      if (columns <= kNarrow) return launch_gemm<TensorTile<4, 2, 2, 1>>(context, maps, weights, ending);
      if (large) return launch_gemm<TensorTile<2, 4, 4, 2>>(context, maps, weights, ending);
      return launch_gemm<TensorTile<2, 4, 2, 1>>(context, maps, weights, ending);
    }
  }
  if (columns <= kThin) return launch_gemm<PlainTile<64, 2, 1>>(context, maps, weights, ending);
  if (columns <= kNarrow) return launch_gemm<PlainTile<32, 8, 1>>(context, maps, weights, ending);
  if (large) return launch_gemm<PlainTile<16, 16, 2>>(context, maps, weights, ending);
  launch_gemm<PlainTile<16, 16, 1>>(context, maps, weights, ending);
}

template void gemm(const Context&, const Maps<float>&, const Weights<float>&, const Finish<float>&);
template void gemm(const Context&, const Maps<float>&, const Weights<float>&, const Products&);
template void gemm(const Context&, const Maps<bfloat16>&, const Weights<bfloat16>&, const Finish<bfloat16>&);
template void gemm(const Context&, const Maps<bfloat16>&, const Weights<bfloat16>&, const Products&);

void check_gemm(const char* op, DType dtype, int64_t pixels, int64_t weights) {
  wanted_tensor_cores();
  with_type(op, dtype, [](auto) {});
  check(pixels < INT32_MAX / 2 && weights < INT32_MAX, op,
        ": CUDA takes at most 2^30 pixels and 2^31 weights, ", "and there are ", pixels, " and ", weights);
}

}  // namespace glnet::cuda
