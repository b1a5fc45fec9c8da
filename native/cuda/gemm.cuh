// Matrix products for convolutions, which gemm.cu computes: y[m, n] = sum over k of left[m, k] right[k, n] in
// float32, where m counts the pixels of the output, n its channels and k pairs of input channel and tap.
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

/// A channel and a tap, and how many pixels the tap lies after the first.
struct Depth {
  int channel, tap, tap_row, tap_column, pixels;
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
  __device__ bool few_channels() const { return channels < kDepth; }
  __device__ int steps() const {
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
    d.pixels = d.tap_row * width + d.tap_column;
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
    return x[static_cast<int64_t>(pixel + d.pixels) * channels + d.channel];
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

/// Multiplies, and hands the sums to `ending`: Finish<T> or Products. T: float or bfloat16.
template <class T, class Ending>
void gemm(const Context& context, const Maps<T>& maps, const Weights<T>& weights, const Ending& ending);

/// What a device can refuse before anything is queued: other types, and what 32 bits cannot index. Also reads
/// the environment, here on the submitting thread, which is the one that may change it.
void check_gemm(const char* op, DType dtype, int64_t pixels, int64_t weights);

}  // namespace glnet::cuda
