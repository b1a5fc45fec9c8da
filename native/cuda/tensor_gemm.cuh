// Convolutions of bfloat16 maps on tensor cores: y[m, n] = sum over k, where m counts the pixels of the
// output, n its channels, and k the sources, their taps and, fastest, their channels. See tensor_gemm.cu.
#pragma once

#include "cuda/gemm.cuh"

namespace glnet::cuda {

/// A convolution of maps on one grid, whose channels follow each other. Weights are [K, kh, kw, C]. Where
/// taps are split, a column of the product is a tap and, fastest, an output.
struct TensorProduct {
  static constexpr int kMostSources = 16;
  /// Maps [N, height, width, channels].
  struct Source {
    const bfloat16* x;
    int channels;
    int map_stride;  ///< pixels from one patch's map to the next; 0 if there is one for all
    int first;       ///< its first channel among the weights'
  };
  Source sources[kMostSources] = {};
  int count = 0;
  int height = 0, width = 0;  ///< of the maps
  int out_height = 0, out_width = 0, patches = 0;
  int kernel_height = 1, kernel_width = 1;
  int stride = 1;
  int top = 0, left = 0;  ///< where the first tap of the first pixel lies: minus the padding
  const bfloat16* weights = nullptr;
  int columns = 0;
  int outputs = 0;  ///< every `room` columns begin with so many outputs; the rest of them are zero
  int room = 0;
  int column_stride = 0;               ///< of the weights: from one output to the next,
  int row_stride = 0, tap_stride = 0;  ///< from one row of taps to the next, and within a row,
  int split_stride = 0;                ///< and from one of the split taps to the next
  bool octets = true;                  ///< channels, and where they begin, are multiples of 8

  /// Pixels of a step's 8 channels in the maps.
  struct Place {
    int source, row, column, channel;
  };

  /// Makes an output of each of `taps` taps that lie so far apart in the weights, with room for `channels` of
  /// each.
  void split(int taps, int stride, int channels);
  void add(const bfloat16* x, int64_t channels, int64_t map_stride, int64_t first);

  __host__ __device__ int64_t rows() const { return static_cast<int64_t>(patches) * out_height * out_width; }
  __host__ __device__ int depth() const {
    int channels = 0;
    for (int i = 0; i < count; ++i) channels += sources[i].channels;
    return channels * kernel_height * kernel_width;
  }
  /// Where a k lies; past the last source for those beyond.
  __device__ Place locate(int k) const {
    Place at{};
    for (; at.source < count; ++at.source) {
      const int n = kernel_height * kernel_width * sources[at.source].channels;
      if (k < n) break;
      k -= n;
    }
    if (at.source == count) return at;
    const int channels = sources[at.source].channels, tap = k / channels;
    at.channel = k % channels;
    at.row = tap / kernel_width;
    at.column = tap % kernel_width;
    return at;
  }
  __device__ void advance(Place& at, int by) const {
    at.channel += by;
    while (at.source < count && at.channel >= sources[at.source].channels) {
      at.channel -= sources[at.source].channels;
      if (++at.column < kernel_width) continue;
      at.column = 0;
      if (++at.row < kernel_height) continue;
      at.row = 0;
      ++at.source;
    }
  }
  /// Of a row of the product: its patch, and where its first tap lies; outside for rows past the last.
  __device__ void place(int64_t m, int& patch, int& row, int& column) const {
    if (m >= rows()) {
      patch = 0;
      row = column = INT32_MIN / 2;
      return;
    }
    const auto pixel = static_cast<int>(m);  // as check_gemm says
    const int line = pixel / out_width;
    patch = line / out_height;
    row = line % out_height * stride + top;
    column = pixel % out_width * stride + left;
  }
  __device__ bool inside(int row, int column) const {
    return static_cast<unsigned>(row) < static_cast<unsigned>(height) &&
           static_cast<unsigned>(column) < static_cast<unsigned>(width);
  }
  /// Where a column's weights begin; -1 for columns past the last.
  __device__ int begin(int column) const {
    const int output = column % room;
    return column < columns && output < outputs ? output * column_stride + column / room * split_stride : -1;
  }
};

/// Whether convolutions of bfloat16 go this way: what GLNET_TENSOR_CORES says, else whether all devices can.
bool on_tensor_cores(DType dtype);

/// How a product of so many rows, columns and ks is cut.
struct TensorCut {
  int tile_rows, tile_columns;
  int parts, part_steps;  ///< of k: each is summed by itself, and then they are added up
  size_t bytes;           ///< of the parts' sums
};
TensorCut tensor_cut(int64_t rows, int64_t columns, int64_t depth);

/// A weight [K, C, kh, kw] as [K, kh, kw, C]: makes a copy, unless that is the same.
void pack_tensor_weight(Prepare& prepare, const View& weight);
/// What was made of it.
inline const bfloat16* tensor_weight(const View& weight, const Context& context) {
  const bool same = weight.dim(2) * weight.dim(3) == 1;
  return static_cast<const bfloat16*>(same ? weight.data : context.packed.front());
}

/// Writes the product as it is: [rows, stride].
struct Rows {
  float* to;
  int stride;

  __device__ __forceinline__ void store(int64_t row, int column, const Quad<float>& v, int count) const {
    write_quad(to + row * stride + column, v, count, count >= 4 && stride % 4 == 0);
  }
};

/// Multiplies, and hands the sums to `ending`: Finish<bfloat16> or Rows. `parts`: room for
/// tensor_cut(...).bytes.
template <class Ending>
void tensor_gemm(const Context& context, const TensorProduct& product, const Ending& ending, void* parts);

}  // namespace glnet::cuda
