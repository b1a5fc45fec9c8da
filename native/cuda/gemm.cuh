// Matrix products for convolutions: y[m, n] = sum over k of left[m, k] right[k, n] in float32, where neither
// matrix is ever built. A product says where its elements lie; gemm_kernel.cuh computes any of them, gemm.cu
// the convolution, where m counts the pixels of the output, n its channels and k pairs of input channel and
// tap.
#pragma once

#include "cuda/common.cuh"

namespace glnet::cuda {

/// How far a step goes along k.
constexpr int kDepth = 16;

/// Four neighbours, moved at once.
template <class T>
struct alignas(4 * sizeof(T)) Quad {
  T v[4];
};

/// Maps [N, height, width, channels], and where the taps of each pixel of another grid meet them.
template <class T>
struct Maps {
  const T* x;
  int height, width, channels;
  int map_stride;  ///< pixels from one patch's map to the next; 0 if there is one for all
  int out_height, out_width, patches;
  int kernel_height = 1, kernel_width = 1;
  int stride = 1;         ///< from one pixel of the other grid to the next
  int top = 0, left = 0;  ///< where the first tap of its first pixel lies: minus the padding
  int tap_stride = 1;     ///< from one tap to the next: -1 where the maps are a convolution's results

  __host__ __device__ int64_t rows() const { return static_cast<int64_t>(patches) * out_height * out_width; }
  __host__ __device__ int taps() const { return kernel_height * kernel_width; }
  /// Where the first tap of a pixel lies: in the maps, and its row and column. Outside for pixels past the
  /// last.
  __device__ void place(int64_t m, int& pixel, int& row, int& column) const {
    if (m >= rows()) {
      pixel = row = column = INT32_MIN / 2;
      return;
    }
    const auto at = static_cast<int>(m);  // as check_gemm says
    const int line = at / out_width;
    row = line % out_height * stride + top;
    column = at % out_width * stride + left;
    pixel = line / out_height * map_stride + row * width + column;
  }
  __device__ bool inside(int row, int column) const {
    return static_cast<unsigned>(row) < static_cast<unsigned>(height) &&
           static_cast<unsigned>(column) < static_cast<unsigned>(width);
  }
};

/// Weights by column, channel of the maps and tap; `w` is that of the first of each. Where taps are columns
/// of their own, a column is an output and one of its `split` taps.
template <class T>
struct Weights {
  const T* w;
  int columns;
  int column_stride, channel_stride;
  int row_stride = 0, tap_stride = 1;  ///< from one row of taps to the next, and within a row
  int split = 1;

  /// Where a column begins; -1 for columns past the last.
  __device__ int place(int column) const {
    return column < columns ? column / split * column_stride + column % split : -1;
  }
};

/// The product of a convolution: pixels of the output, by its channels, by channels and taps of the input.
template <class T>
struct Convolution {
  using Value = T;
  static constexpr bool kDepthFastest = true;

  Maps<T> maps;
  Weights<T> weights;

  struct Rows {
    Quad<int> pixel, row, column;
  };
  using Columns = Quad<int>;
  /// A channel and a tap: how far it lies from the first one in the maps, and in the weights.
  struct Depth {
    int channel, row, column, pixels;
    int weight;  ///< -1 for channels past the last
  };

  __host__ __device__ int64_t rows() const { return maps.rows(); }
  __host__ __device__ int columns() const { return weights.columns; }
  /// Whether channels and taps are walked through together.
  __device__ bool few_channels() const { return maps.channels < kDepth; }
  __device__ int steps() const {
    return few_channels() ? (maps.channels * maps.taps() + kDepth - 1) / kDepth
                          : (maps.channels + kDepth - 1) / kDepth * maps.taps();
  }
  __device__ Depth depth(int step, int k) const {
    const int at = few_channels() ? step * kDepth + k : step, tap = at % maps.taps();
    Depth d;
    d.channel = few_channels() ? at / maps.taps() : at / maps.taps() * kDepth + k;
    const int row = tap / maps.kernel_width, column = tap % maps.kernel_width;
    d.row = row * maps.tap_stride;
    d.column = column * maps.tap_stride;
    d.pixels = d.row * maps.width + d.column;
    d.weight = d.channel < maps.channels ? d.channel * weights.channel_stride + row * weights.row_stride +
                                               column * weights.tap_stride
                                         : -1;
    return d;
  }
  __device__ Rows place_rows(int64_t first) const {
    Rows r;
    for (int i = 0; i < 4; ++i) maps.place(first + i, r.pixel.v[i], r.row.v[i], r.column.v[i]);
    return r;
  }
  __device__ Columns place_columns(int first) const {
    Columns begin;
    for (int i = 0; i < 4; ++i) begin.v[i] = weights.place(first + i);
    return begin;
  }
  __device__ Quad<T> left(const Rows& rows, const Depth& d) const {
    Quad<T> q;
    for (int i = 0; i < 4; ++i) {
      const bool inside = maps.inside(rows.row.v[i] + d.row, rows.column.v[i] + d.column) && d.weight >= 0;
      q.v[i] = inside ? maps.x[static_cast<int64_t>(rows.pixel.v[i] + d.pixels) * maps.channels + d.channel]
                      : T(0.0f);
    }
    return q;
  }
  __device__ Quad<T> right(const Columns& begin, const Depth& d) const {
    Quad<T> q;
    for (int i = 0; i < 4; ++i) {
      const bool inside = begin.v[i] >= 0 && d.weight >= 0;
      q.v[i] = inside ? weights.w[begin.v[i] + d.weight] : T(0.0f);
    }
    return q;
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
      const bool aligned = reinterpret_cast<uintptr_t>(bias) % sizeof(Quad<float>) == 0;
      const Quad<float> more = read_quad(bias + channel, count, count >= 4 && aligned);
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

/// Writes products [pixels, area, channels]; the columns of the matrix are [channels, area].
struct Products {
  float* to;
  int area, channels;

  __device__ __forceinline__ void store(int64_t pixel, int column, const Quad<float>& v, int count) const {
    float* at = to + pixel * area * channels;
    for (int i = 0; i < 4; ++i) {
      if (i < count) at[(column + i) % area * channels + (column + i) / area] = v.v[i];
    }
  }
};

// Columns of a thin and of a narrow tile, and the sides of a square and of a large one.
constexpr int kThin = 8, kNarrow = 32, kSquare = 64, kLarge = 128;

constexpr int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

/// Tiles that cover a product.
constexpr int64_t tiles_of(int64_t rows, int64_t columns, int tile_rows, int tile_columns) {
  return (rows + tile_rows - 1) / tile_rows * ((columns + tile_columns - 1) / tile_columns);
}

/// What a row of a product with so many columns costs: narrow tiles read more for each multiply-add.
constexpr int64_t column_cost(int64_t n) {
  if (n <= kThin) return 3 * kThin;
  if (n <= kNarrow) return kNarrow + kNarrow / 2;
  return round_up(n, kSquare);
}

/// Multiplies, and hands the sums to `ending`: Finish<T> or Products. T: float or bfloat16.
template <class T, class Ending>
void gemm(const Context& context, const Convolution<T>& product, const Ending& ending);

/// What a device can refuse before anything is queued: other types, and what 32 bits cannot index.
void check_gemm(const char* op, DType dtype, int64_t pixels, int64_t weights);

}  // namespace glnet::cuda
