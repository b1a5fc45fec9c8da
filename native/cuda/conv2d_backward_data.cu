// conv2d_backward_data: an implicit matrix product, pixels of x by its channels by outputs and taps, see
// gemm.cuh; threads and data: see gemm_kernel.cuh.
//
// The maps are dy's, walked through from the last tap to the first, and the weights are read as they are, by
// their inputs: no turned copy of either. With a stride, the taps that meet a pixel of x depend on the
// remainders of its row and column: pixels that share them are a product of their own, with none of the taps
// that would meet the zeros between dy's pixels. That is a launch for each, of stride * stride; where there
// is no tap, a product of no terms writes zeros, or the addend.
//
// Moves, from memory, dy, the weights, the addend and dx once; a block reads each element of its rows' pixels
// once a tap and column of tiles, from the L2 cache. As many multiply-adds as the convolution. Floor, for 6
// patches of 127x127x64 from 64 outputs with a 3 x 3 kernel, 3.57 G multiply-adds and 50 MB: 106 us of
// arithmetic on an H100 (67 TFLOP/s; 15 us of bytes at 3.35 TB/s), 86 us on an RTX 4090 (83 TFLOP/s; 49 us
// at 1.01 TB/s). Considered: one product over all taps, of which those that miss are zeros: 4 times the
// arithmetic with a stride of 2; adding up products per tap (col2im), which needs kh kw times dx in memory.
// Left: the launches of a stride in one.
#include "cuda/gemm_kernel.cuh"

namespace glnet::cuda {
namespace {

/// The pixels of an axis that one set of taps meets.
struct Residue {
  int pixel;         ///< the first; the others follow at the stride
  int pixels, taps;  ///< how many
  int start;         ///< where the first tap of the first pixel meets dy
};

/// Of the taps `first`, first + stride, ...
Residue residue_of(int first, int length, int kernel, int stride, int padding) {
  const int pixel = (first + stride - padding % stride) % stride;
  const auto count = [&](int from, int to) { return std::max(0, (to - from + stride - 1) / stride); };
  return {pixel, count(pixel, length), count(first, kernel), (pixel + padding - first) / stride};
}

/// Writes the pixels of a product to every `step`-th row and column of a map.
struct Spread {
  Finish<float> finish;
  int height, width;  ///< of the product's pixels
  int map_height, map_width;
  int step, top, left;

  __device__ __forceinline__ void store(int64_t pixel, int channel, const Quad<float>& v, int count) const {
    const auto line = static_cast<int>(pixel / width), column = static_cast<int>(pixel % width);
    const int64_t row = static_cast<int64_t>(line / height) * map_height + line % height * step + top;
    finish.store(row * map_width + column * step + left, channel, v, count);
  }
};

}  // namespace

void prepare_conv2d_backward_data(const Conv2dBackwardData& op, Prepare&) {
  check_gemm(op.kName, op.dy.dtype, std::max(op.dx.size() / op.dx.dim(3), op.dy.size() / op.dy.dim(3)),
             op.weight.size());
}

void conv2d_backward_data(const Conv2dBackwardData& op, const Context& context) {
  const auto size = [](const View& v, size_t i) { return static_cast<int>(v.dim(i)); };
  const int kernel_height = size(op.weight, 2), kernel_width = size(op.weight, 3);
  const int channels = size(op.weight, 1), area = kernel_height * kernel_width;
  const Finish<float> finish{
      .y = op.dx.as<float>(), .addend = op.addend.as<const float>(), .stride = channels};
  for (int row = 0; row < op.stride; ++row) {
    const Residue rows = residue_of(row, op.height, kernel_height, op.stride, op.padding);
    for (int column = 0; column < op.stride; ++column) {
      const Residue columns = residue_of(column, op.width, kernel_width, op.stride, op.padding);
      if (rows.pixels * columns.pixels == 0) continue;
      const bool taps = rows.taps * columns.taps > 0;
      const Maps<float> maps{.x = op.dy.as<const float>(),
                             .height = size(op.dy, 1),
                             .width = size(op.dy, 2),
                             .channels = taps ? size(op.dy, 3) : 0,
                             .map_stride = size(op.dy, 1) * size(op.dy, 2),
                             .out_height = rows.pixels,
                             .out_width = columns.pixels,
                             .patches = size(op.dy, 0),
                             .kernel_height = taps ? rows.taps : 1,
                             .kernel_width = taps ? columns.taps : 1,
                             .top = rows.start,
                             .left = columns.start,
                             .tap_stride = -1};
      const Weights<float> weights{.w = op.weight.as<const float>() + row * kernel_width + column,
                                   .columns = channels,
                                   .column_stride = area,
                                   .channel_stride = channels * area,
                                   .row_stride = op.stride * kernel_width,
                                   .tap_stride = op.stride};
      const Convolution<float> product{maps, weights};
      if (op.stride == 1) {
        gemm(context, product, finish);
      } else {
        multiply(context, product,
                 Spread{.finish = finish,
                        .height = rows.pixels,
                        .width = columns.pixels,
                        .map_height = op.height,
                        .map_width = op.width,
                        .step = op.stride,
                        .top = rows.pixel,
                        .left = columns.pixel});
      }
    }
  }
}

}  // namespace glnet::cuda
