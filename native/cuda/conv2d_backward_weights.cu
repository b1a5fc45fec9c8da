// conv2d_backward_weights: an implicit matrix product, taps and channels of x by outputs by pixels, see
// gemm.cuh; threads and data: see gemm_kernel.cuh. k counts pixels here, and neighbouring threads read
// neighbouring channels of x where a tap meets it, and neighbouring outputs of dy, four at a time where there
// are multiples of four.
//
// There are few weights and many pixels, so the pixels are divided among blocks: each sums a part of at most
// 512 for its tile, in a few rounds of launches, and adds it to its own sums in the workspace. In the end the
// sums are added to dweight by a kernel of their own, a block a tile of 32 x 32 weights, which it turns from
// [taps, channels, outputs] to [outputs, channels, taps] in shared memory. Every sum is taken in an order
// that only sizes decide: no atomics, the same bits each time. In parts, a sum over 100 000 pixels keeps
// float32's digits.
//
// Moves, from memory, x and dy once, and dweight twice; a block of 128 x 128 reads each element of dy once
// for a row of tiles, of x once a tap and column of tiles, from the L2 cache, and the sums go out and in
// again once a round. As many multiply-adds as the convolution. Floor, for 6 patches of 127x127x64 to 64
// outputs with a 3 x 3 kernel, 3.57 G multiply-adds and 50 MB: 106 us of arithmetic on an H100 (67 TFLOP/s;
// 15 us of bytes at 3.35 TB/s), 86 us on an RTX 4090 (83 TFLOP/s; 49 us at 1.01 TB/s). Considered: the sums
// of a part kept in double in registers, of which there are none left; one part for each 512 pixels, which
// for large weights takes hundreds of megabytes. Left: tiles of taps that share the columns of x they read;
// conv1's three channels are read one by one.
#include "cuda/gemm_kernel.cuh"
#include "cuda/weight_gradient.cuh"

namespace glnet::cuda {
namespace {

constexpr int64_t kMostPixels = 512;   // of a part in one round: see the limit in the tests
constexpr int64_t kLeastPixels = 128;  // below it, writing the sums takes as long as making them

/// Taps and channels of the maps, by columns of dy, by pixels: blocks along y take parts of these.
struct Correlation {
  using Value = float;
  static constexpr bool kDepthFastest = false;

  Maps<float> maps;
  const float* dy;  ///< [pixels, width]
  int width;
  int64_t first;  ///< of the pixels of this round
  int part;       ///< pixels of a block, a multiple of kDepth

  /// Taps and channels: how far they lie from a pixel's first, in elements of the maps, rows and columns.
  struct Rows {
    Quad<int> offset, row, column;
  };
  using Columns = int;  ///< the first of four
  /// A pixel, and where its first tap lies.
  struct Depth {
    int64_t m;
    int pixel, row, column;
  };

  __host__ __device__ int64_t rows() const { return static_cast<int64_t>(maps.taps()) * maps.channels; }
  __host__ __device__ int columns() const { return width; }
  __device__ int steps() const { return part / kDepth; }
  __device__ Depth depth(int step, int k) const {
    Depth d;
    d.m = first + static_cast<int64_t>(blockIdx.y) * part + step * kDepth + k;
    maps.place(d.m, d.pixel, d.row, d.column);
    return d;
  }
  __device__ Rows place_rows(int64_t first) const {
    Rows r;
    for (int i = 0; i < 4; ++i) {
      const int at = static_cast<int>(first) + i, tap = at / maps.channels;
      r.row.v[i] = at < rows() ? tap / maps.kernel_width : INT32_MIN / 2;
      r.column.v[i] = tap % maps.kernel_width;
      r.offset.v[i] =
          (tap / maps.kernel_width * maps.width + r.column.v[i]) * maps.channels + at % maps.channels;
    }
    return r;
  }
  __device__ Columns place_columns(int first) const { return first; }
  __device__ Quad<float> left(const Rows& rows, const Depth& d) const {
    const float* pixel = maps.x + static_cast<int64_t>(d.pixel) * maps.channels;
    Quad<float> q{};
    if (maps.channels % 4 == 0) {
      if (!maps.inside(d.row + rows.row.v[0], d.column + rows.column.v[0])) return q;
      return *reinterpret_cast<const Quad<float>*>(pixel + rows.offset.v[0]);
    }
    for (int i = 0; i < 4; ++i) {
      if (maps.inside(d.row + rows.row.v[i], d.column + rows.column.v[i])) q.v[i] = pixel[rows.offset.v[i]];
    }
    return q;
  }
  __device__ Quad<float> right(Columns column, const Depth& d) const {
    const int count = d.m < maps.rows() ? width - column : 0;
    return read_quad(dy + d.m * width + column, count, count >= 4 && width % 4 == 0);
  }
};

/// Writes the sums of each part, [parts, rows, columns], or adds to them.
struct Sums {
  float* to;
  int64_t size;  ///< of a part
  int columns;
  bool add;

  __device__ __forceinline__ void store(int64_t row, int column, Quad<float> v, int count) const {
    float* at = to + blockIdx.y * size + row * columns + column;
    const bool whole = count >= 4 && columns % 4 == 0;
    if (add) {
      const Quad<float> more = read_quad(at, count, whole);
      for (int i = 0; i < 4; ++i) v.v[i] += more.v[i];
    }
    write_quad(at, v, count, whole);
  }
};

/// Where the sum of a tap, a channel and an output lies; outputs are neighbours.
struct SumLayout {
  int64_t size;  ///< of a part
  int parts;
  int tap_stride, channel_stride;
};

constexpr int kSide = 32;
constexpr int kLines = kThreads / kSide;

/// Adds the parts to the weights, by tiles of kSide channels and taps x kSide outputs.
__global__ void __launch_bounds__(kThreads)
    add_sums_kernel(const float* sums, SumLayout layout, WeightSlice weights) {
  SHARED_ARRAY(float, tile, kSide*(kSide + 1));
  const int lane = static_cast<int>(threadIdx.x) % kSide, line = static_cast<int>(threadIdx.x) / kSide;
  const int inner = weights.channels * weights.area;
  const int columns = (weights.outputs + kSide - 1) / kSide, rows = (inner + kSide - 1) / kSide;
  for (int64_t item = blockIdx.x; item < static_cast<int64_t>(rows) * columns; item += gridDim.x) {
    const int first_row = static_cast<int>(item / columns) * kSide;
    const int first_output = static_cast<int>(item % columns) * kSide;
    for (int i = line; i < kSide; i += kLines) {
      const int row = first_row + i, output = first_output + lane;
      if (row >= inner || output >= weights.outputs) continue;
      const float* from = sums + static_cast<int64_t>(row % weights.area) * layout.tap_stride +
                          static_cast<int64_t>(row / weights.area) * layout.channel_stride + output;
      float sum = 0;
      for (int part = 0; part < layout.parts; ++part) sum += from[part * layout.size];
      tile[i * (kSide + 1) + lane] = sum;
    }
    __syncthreads();
    for (int i = line; i < kSide; i += kLines) {
      const int row = first_row + lane, output = first_output + i;
      if (row >= inner || output >= weights.outputs) continue;
      const float sum = tile[lane * (kSide + 1) + i];
      weights.w[static_cast<int64_t>(output) * weights.output_stride + row] += sum;
    }
    // The next item writes the tile again.
    __syncthreads();
  }
}

/// How pixels are divided.
struct Division {
  int64_t parts;   ///< of which each has sums of its own
  int64_t pixels;  ///< of a part in one round
};

Division divide(int64_t rows, int64_t columns, int64_t pixels) {
  const auto over = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
  const auto tiles = [&](int64_t height, int64_t width) { return over(rows, height) * over(columns, width); };
  const int64_t blocks = columns <= kThin     ? tiles(4 * kSquare, kThin)
                         : columns <= kNarrow ? tiles(kLarge, kNarrow)
                         : columns <= kSquare ? tiles(kSquare, kSquare)
                                              : tiles(kLarge, kLarge);
  const int64_t fit = std::max<int64_t>(scratch_bytes() / (4 * rows * columns), 1);
  const int64_t parts = std::min({over(2 * kBusyBlocks, blocks), fit, over(pixels, kLeastPixels)});
  const int64_t rounds = over(pixels, parts * kMostPixels);
  const int64_t part = over(over(pixels, rounds * parts), kDepth) * kDepth;
  return {std::min(parts, over(pixels, part)), part};
}

Maps<float> maps_of(const Conv2dBackwardWeights& op) {
  const auto size = [](const View& v, size_t i) { return static_cast<int>(v.dim(i)); };
  return {.x = op.x.as<const float>(),
          .height = size(op.x, 1),
          .width = size(op.x, 2),
          .channels = size(op.x, 3),
          .map_stride = size(op.x, 1) * size(op.x, 2),
          .out_height = size(op.dy, 1),
          .out_width = size(op.dy, 2),
          .patches = size(op.dy, 0),
          .kernel_height = size(op.dweight, 2),
          .kernel_width = size(op.dweight, 3),
          .stride = op.stride,
          .top = -op.padding,
          .left = -op.padding};
}

}  // namespace

int64_t weight_gradient_bytes(int64_t rows, int64_t columns, int64_t pixels) {
  return divide(rows, columns, pixels).parts * rows * columns * 4;
}

void weight_gradient(const Context& context, const Maps<float>& maps, const float* dy,
                     const WeightSlice& weights, void* workspace) {
  const bool by_taps = maps.taps() == 1;  // taps are columns, if there are any
  Correlation product{.maps = maps,
                      .dy = dy,
                      .width = by_taps ? weights.area * weights.outputs : weights.outputs,
                      .first = 0,
                      .part = 0};
  const int64_t pixels = maps.rows(), size = product.rows() * product.width;
  const Division d = divide(product.rows(), product.width, pixels);
  product.part = static_cast<int>(d.pixels);
  auto* sums = static_cast<float*>(workspace);
  for (; product.first < pixels; product.first += d.parts * d.pixels) {
    const int64_t parts = std::min(d.parts, (pixels - product.first + d.pixels - 1) / d.pixels);
    multiply(context, product,
             Sums{.to = sums, .size = size, .columns = product.width, .add = product.first > 0},
             static_cast<int>(parts));
  }
  const SumLayout layout{.size = size,
                         .parts = static_cast<int>(d.parts),
                         .tap_stride = by_taps ? weights.outputs : weights.channels * weights.outputs,
                         .channel_stride = by_taps ? product.width : weights.outputs};
  const int64_t tiles = (static_cast<int64_t>(weights.channels) * weights.area + kSide - 1) / kSide *
                        ((weights.outputs + kSide - 1) / kSide);
  launch(add_sums_kernel, static_cast<unsigned>(std::min(tiles, kMostBlocks)), kThreads, 0,
         stream_of(context), sums, layout, weights);
}

void prepare_conv2d_backward_weights(const Conv2dBackwardWeights& op, Prepare& prepare) {
  const int64_t pixels = op.dy.size() / op.dy.dim(3);
  check_gemm(op.kName, op.x.dtype, std::max(op.x.size() / op.x.dim(3), pixels), op.dweight.size());
  const Maps<float> maps = maps_of(op);
  prepare.workspace(static_cast<size_t>(
      weight_gradient_bytes(static_cast<int64_t>(maps.taps()) * maps.channels, op.dy.dim(3), pixels)));
}

void conv2d_backward_weights(const Conv2dBackwardWeights& op, const Context& context) {
  const Maps<float> maps = maps_of(op);
  const auto outputs = static_cast<int>(op.dy.dim(3));
  weight_gradient(context, maps, op.dy.as<const float>(),
                  {.w = op.dweight.as<float>(),
                   .outputs = outputs,
                   .channels = maps.channels,
                   .area = maps.taps(),
                   .output_stride = maps.channels * maps.taps()},
                  context.workspace);
}

}  // namespace glnet::cuda
