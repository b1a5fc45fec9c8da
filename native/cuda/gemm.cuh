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
#pragma once

#include "cuda/common.cuh"

namespace glnet::cuda {

/// Four neighbours, moved at once.
template <class T>
struct alignas(4 * sizeof(T)) Quad {
  T v[4];
};

/// What a block computes: kRowThreads x kColumnThreads threads, each with kQuads x kQuads squares of 4 x 4.
template <int kRowThreads_, int kColumnThreads_, int kQuads_>
struct Tile {
  static constexpr int kRowThreads = kRowThreads_, kColumnThreads = kColumnThreads_, kQuads = kQuads_;
  static constexpr int kThreads = kRowThreads * kColumnThreads;
  static constexpr int kRowQuads = kRowThreads * kQuads, kColumnQuads = kColumnThreads * kQuads;
  static constexpr int kRows = 4 * kRowQuads, kColumns = 4 * kColumnQuads;
};
using LargeTile = Tile<16, 16, 2>;   // 128 x 128
using SquareTile = Tile<16, 16, 1>;  // 64 x 64
using NarrowTile = Tile<32, 8, 1>;   // 128 x 32
using ThinTile = Tile<64, 2, 1>;     // 256 x 8

/// Steps along k.
constexpr int kDepth = 16;

/// A channel and a tap.
struct Depth {
  int channel, tap, tap_row, tap_column;
};

/// The left matrix: maps [N, height, width, channels], and how a convolution reads them.
template <class T>
struct Maps {
  const T* x;
  int height, width, channels;
  int map_stride;  ///< pixels from one patch's map to the next; 0 if there is one for all
  int out_height, out_width, patches;
  int kernel_height = 1, kernel_width = 1, stride = 1, padding = 0;

  __host__ __device__ int64_t rows() const { return static_cast<int64_t>(patches) * out_height * out_width; }
  __host__ __device__ int taps() const { return kernel_height * kernel_width; }
  /// Whether channels and taps are walked through together.
  __host__ __device__ bool few_channels() const { return channels < kDepth; }
  __host__ __device__ int steps() const {
    return few_channels() ? (channels * taps() + kDepth - 1) / kDepth
                          : (channels + kDepth - 1) / kDepth * taps();
  }
  /// The k of a step; its channel may be past the last.
  __device__ Depth depth(int step, int k) const {
    Depth d;
    if (few_channels()) {
      const int at = step * kDepth + k;
      d.channel = at / taps();
      d.tap = at % taps();
    } else {
      d.channel = step / taps() * kDepth + k;
      d.tap = step % taps();
    }
    d.tap_row = d.tap / kernel_width;
    d.tap_column = d.tap % kernel_width;
    return d;
  }
  /// Where the first tap of an output pixel lies: in the maps, and its row and column. Outside for rows past
  /// the last.
  __device__ void place(int64_t m, int& pixel, int& row, int& column) const {
    if (m >= rows()) {
      pixel = row = column = INT32_MIN / 2;
      return;
    }
    const auto line = static_cast<int>(m / out_width);
    row = line % out_height * stride - padding;
    column = static_cast<int>(m % out_width) * stride - padding;
    pixel = line / out_height * map_stride + row * width + column;
  }
  __device__ T read(int pixel, int row, int column, const Depth& d) const {
    const bool inside = static_cast<unsigned>(row + d.tap_row) < static_cast<unsigned>(height) &&
                        static_cast<unsigned>(column + d.tap_column) < static_cast<unsigned>(width) &&
                        d.channel < channels;
    if (!inside) return T(0.0f);
    return x[static_cast<int64_t>(pixel + d.tap_row * width + d.tap_column) * channels + d.channel];
  }
};

/// The right matrix: weights [K, C, area] from their first input channel on. For products, whose taps are
/// columns of their own, `split` is the area, else 1.
template <class T>
struct Weights {
  const T* w;
  int columns;        ///< K times split
  int area;           ///< kh kw
  int output_stride;  ///< C area
  int split = 1;

  /// Where a column begins; -1 for columns past the last.
  __device__ int place(int column) const {
    return column < columns ? column / split * output_stride + column % split : -1;
  }
  __device__ T read(int begin, const Depth& d, int channels) const {
    if (begin < 0 || d.channel >= channels) return T(0.0f);
    return w[static_cast<int64_t>(begin) + static_cast<int64_t>(d.channel) * area + d.tap];
  }
};

/// Up to four neighbours as float32. `whole`: there are four, and they are aligned.
template <class T>
__device__ __forceinline__ Quad<float> read_quad(const T* from, int count, bool whole) {
  Quad<float> q{};
  if (whole) {
    const Quad<T> raw = *reinterpret_cast<const Quad<T>*>(from);
    for (int i = 0; i < 4; ++i) q.v[i] = static_cast<float>(raw.v[i]);
  } else {
    for (int i = 0; i < 4; ++i) {
      if (i < count) q.v[i] = static_cast<float>(from[i]);
    }
  }
  return q;
}

template <class T>
__device__ __forceinline__ void write_quad(T* to, const Quad<float>& q, int count, bool whole) {
  if (whole) {
    Quad<T> raw;
    for (int i = 0; i < 4; ++i) raw.v[i] = T(q.v[i]);
    *reinterpret_cast<Quad<T>*>(to) = raw;
  } else {
    for (int i = 0; i < 4; ++i) {
      if (i < count) to[i] = T(q.v[i]);
    }
  }
}

/// What becomes of the sums of a convolution: y = relu(sum + sums so far + bias + addend), or sums to go on
/// with. All maps have K channels; those of y and the addend are `stride` apart, of the sums `sums_stride`.
template <class T>
struct Finish {
  T* y;                    ///< nullptr: the sums are written to `later`
  float* later = nullptr;  ///< float32
  const float* so_far = nullptr;
  const float* bias = nullptr;
  const T* addend = nullptr;
  int stride = 0, sums_stride = 0;
  bool relu = false;

  /// Up to four neighbouring channels of a pixel; `channel` is a multiple of 4, `count` may be more than 4.
  __device__ __forceinline__ void store(int64_t pixel, int channel, Quad<float> v, int count) const {
    const int64_t at = pixel * stride + channel, sums_at = pixel * sums_stride + channel;
    const bool whole = count >= 4 && stride % 4 == 0, whole_sums = count >= 4 && sums_stride % 4 == 0;
    if (so_far) {
      const Quad<float> more = read_quad(so_far + sums_at, count, whole_sums);
      for (int i = 0; i < 4; ++i) v.v[i] += more.v[i];
    }
    if (!y) return write_quad(later + sums_at, v, count, whole_sums);
    if (bias) {
      const Quad<float> more = read_quad(bias + channel, count, false);
      for (int i = 0; i < 4; ++i) v.v[i] += more.v[i];
    }
    if (addend) {
      const Quad<float> more = read_quad(addend + at, count, whole);
      for (int i = 0; i < 4; ++i) v.v[i] += more.v[i];
    }
    if (relu) {
      for (int i = 0; i < 4; ++i) v.v[i] = v.v[i] < 0 ? 0 : v.v[i];
    }
    write_quad(y + at, v, count, whole);
  }
};

/// left and right are tiles of depth kDepth, [kDepth][quads + 1]: the odd stride spreads the quads that
/// neighbouring threads store over all banks.
template <class Tile, class T, class Ending>
__global__ void __launch_bounds__(Tile::kThreads)
    gemm_kernel(Maps<T> maps, Weights<T> weights, Ending ending, int column_tiles) {
  constexpr int kLeftStride = Tile::kRowQuads + 1, kRightStride = Tile::kColumnQuads + 1;
  constexpr int kLeft = kDepth * kLeftStride, kRight = kDepth * kRightStride;
  constexpr int kLoaders = Tile::kThreads / kDepth;  // threads that read the same k
  constexpr int kLeftLoads = Tile::kRowQuads / kLoaders;
  constexpr int kRightLoads = (Tile::kColumnQuads + kLoaders - 1) / kLoaders;
  static_assert(Tile::kRowQuads % kLoaders == 0 && Tile::kThreads >= Tile::kRowQuads + Tile::kColumnQuads);
  SHARED_ARRAY(Quad<float>, left, 2 * kLeft);
  SHARED_ARRAY(Quad<float>, right, 2 * kRight);
  SHARED_ARRAY(Quad<int>, pixels, Tile::kRowQuads);
  SHARED_ARRAY(Quad<int>, pixel_rows, Tile::kRowQuads);
  SHARED_ARRAY(Quad<int>, pixel_columns, Tile::kRowQuads);
  SHARED_ARRAY(Quad<int>, begins, Tile::kColumnQuads);

  const auto thread = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
  const int64_t first_row = static_cast<int64_t>(block / column_tiles) * Tile::kRows;
  const int first_column = block % column_tiles * Tile::kColumns;
  if (thread < Tile::kRowQuads) {
    Quad<int> pixel, row, column;
    for (int i = 0; i < 4; ++i) {
      maps.place(first_row + 4 * thread + i, pixel.v[i], row.v[i], column.v[i]);
    }
    pixels[thread] = pixel;
    pixel_rows[thread] = row;
    pixel_columns[thread] = column;
  } else if (thread < Tile::kRowQuads + Tile::kColumnQuads) {
    const int quad = thread - Tile::kRowQuads;
    Quad<int> begin;
    for (int i = 0; i < 4; ++i) begin.v[i] = weights.place(first_column + 4 * quad + i);
    begins[quad] = begin;
  }
  __syncthreads();

  const int k = thread % kDepth, loader = thread / kDepth;
  Quad<float> next_left[kLeftLoads], next_right[kRightLoads];
  const auto load = [&](int step) {
    const Depth d = maps.depth(step, k);
    for (int i = 0; i < kLeftLoads; ++i) {
      const int quad = loader + i * kLoaders;
      const Quad<int> pixel = pixels[quad], row = pixel_rows[quad], column = pixel_columns[quad];
      for (int j = 0; j < 4; ++j) {
        next_left[i].v[j] = static_cast<float>(maps.read(pixel.v[j], row.v[j], column.v[j], d));
      }
    }
    for (int i = 0; i < kRightLoads; ++i) {
      const int quad = loader + i * kLoaders;
      if (quad >= Tile::kColumnQuads) break;
      const Quad<int> begin = begins[quad];
      for (int j = 0; j < 4; ++j) {
        next_right[i].v[j] = static_cast<float>(weights.read(begin.v[j], d, maps.channels));
      }
    }
  };
  const auto store = [&](int half) {
    for (int i = 0; i < kLeftLoads; ++i) {
      left[half * kLeft + k * kLeftStride + loader + i * kLoaders] = next_left[i];
    }
    for (int i = 0; i < kRightLoads; ++i) {
      const int quad = loader + i * kLoaders;
      if (quad < Tile::kColumnQuads) right[half * kRight + k * kRightStride + quad] = next_right[i];
    }
  };

  // Thread (r, c) has rows r, r + kRowThreads, ... and columns c, c + kColumnThreads, ... of quads.
  const int thread_row = thread / Tile::kColumnThreads, thread_column = thread % Tile::kColumnThreads;
  Quad<float> sums[Tile::kQuads][4][Tile::kQuads] = {};
  const int steps = maps.steps();
  load(0);
  store(0);
  __syncthreads();
  for (int step = 0; step < steps; ++step) {
    const int half = step % 2;
    if (step + 1 < steps) load(step + 1);
    for (int d = 0; d < kDepth; ++d) {
      Quad<float> a[Tile::kQuads], b[Tile::kQuads];
      for (int i = 0; i < Tile::kQuads; ++i) {
        a[i] = left[half * kLeft + d * kLeftStride + thread_row + i * Tile::kRowThreads];
        b[i] = right[half * kRight + d * kRightStride + thread_column + i * Tile::kColumnThreads];
      }
      for (int i = 0; i < Tile::kQuads; ++i) {
        for (int r = 0; r < 4; ++r) {
          for (int j = 0; j < Tile::kQuads; ++j) {
            for (int c = 0; c < 4; ++c) sums[i][r][j].v[c] += a[i].v[r] * b[j].v[c];
          }
        }
      }
    }
    if (step + 1 < steps) store(1 - half);
    __syncthreads();
  }

  UNROLL for (int i = 0; i < Tile::kQuads; ++i) {
    UNROLL for (int r = 0; r < 4; ++r) {
      const int64_t row = first_row + 4 * (thread_row + i * Tile::kRowThreads) + r;
      if (row >= maps.rows()) continue;
      UNROLL for (int j = 0; j < Tile::kQuads; ++j) {
        const int column = first_column + 4 * (thread_column + j * Tile::kColumnThreads);
        if (column < weights.columns) ending.store(row, column, sums[i][r][j], weights.columns - column);
      }
    }
  }
}

template <class Tile, class T, class Ending>
void launch_gemm(const Context& context, const Maps<T>& maps, const Weights<T>& weights,
                 const Ending& ending) {
  const int column_tiles = (weights.columns + Tile::kColumns - 1) / Tile::kColumns;
  const int64_t tiles = (maps.rows() + Tile::kRows - 1) / Tile::kRows * column_tiles;
  launch(gemm_kernel<Tile, T, Ending>, static_cast<unsigned>(tiles), Tile::kThreads, 0, stream_of(context),
         maps, weights, ending, column_tiles);
}

/// Multiplies, and hands the sums to `ending`.
template <class T, class Ending>
void gemm(const Context& context, const Maps<T>& maps, const Weights<T>& weights, const Ending& ending) {
  const auto tiles = [&](int side) {
    return (maps.rows() + side - 1) / side * ((weights.columns + side - 1) / side);
  };
  if (weights.columns <= ThinTile::kColumns) {
    launch_gemm<ThinTile>(context, maps, weights, ending);
  } else if (weights.columns <= NarrowTile::kColumns) {
    launch_gemm<NarrowTile>(context, maps, weights, ending);
  } else if (weights.columns > SquareTile::kColumns && tiles(LargeTile::kRows) >= kBusyBlocks) {
    launch_gemm<LargeTile>(context, maps, weights, ending);
  } else {
    launch_gemm<SquareTile>(context, maps, weights, ending);
  }
}

/// What a device can refuse before anything is queued: other types, and what 32 bits cannot index.
inline void check_gemm(const char* op, DType dtype, int64_t pixels, int64_t weights) {
  with_type(op, dtype, [](auto) {});
  check(pixels < INT32_MAX / 2 && weights < INT32_MAX, op,
        ": CUDA takes at most 2^30 pixels and 2^31 weights, ", "and there are ", pixels, " and ", weights);
}

}  // namespace glnet::cuda
