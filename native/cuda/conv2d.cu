// conv2d, where cudnn.cu does not compute it: an implicit matrix product, see gemm.cu for threads and data.
//
// Moves, from memory, x, the weights, the residual and y once: a block of 128 x 128 reads each element of its
// rows' pixels once a tap and column of tiles, from the L2 cache, and each weight once a row of tiles. Floor,
// for 127x127x64 to 64 with a 3 x 3 kernel, 0.59 G multiply-adds and 8.4 MB in float32: 18 us of arithmetic
// on an H100 (67 TFLOP/s; 2.5 us of bytes at 3.35 TB/s), 14 us on an RTX 4090 (83 TFLOP/s; 8.3 us of bytes at
// 1.01 TB/s).
// Considered: weights packed as [taps, C, K], which would make their reads contiguous, but is a second copy
// of them, up to 500 MB for a network; Winograd's transform, which needs transformed weights or loses them
// again. Left: splitting k over blocks, for maps of 16 x 16 pixels that have fewer tiles than a card has
// processors; a batch of patches fills it.
#include "cuda/cudnn.h"
#include "cuda/gemm.cuh"

namespace glnet::cuda {

void prepare_conv2d(const Conv2d& op, Prepare& prepare) {
  check_gemm(op.kName, op.x.dtype, std::max(op.x.size() / op.x.dim(3), op.y.size() / op.y.dim(3)),
             op.weight.size());
  prepare_cudnn_conv2d(op, prepare);
}

void conv2d(const Conv2d& op, const Context& context) {
  if (cudnn_conv2d(op, context)) return;
  with_type(op.kName, op.x.dtype, [&](auto t) {
    using T = decltype(t);
    const auto size = [](const View& v, size_t i) { return static_cast<int>(v.dim(i)); };
    const Maps<T> maps{.x = op.x.as<const T>(),
                       .height = size(op.x, 1),
                       .width = size(op.x, 2),
                       .channels = size(op.x, 3),
                       .map_stride = size(op.x, 1) * size(op.x, 2),
                       .out_height = size(op.y, 1),
                       .out_width = size(op.y, 2),
                       .patches = size(op.y, 0),
                       .kernel_height = size(op.weight, 2),
                       .kernel_width = size(op.weight, 3),
                       .stride = op.stride,
                       .top = -op.padding,
                       .left = -op.padding};
    const Weights<T> weights{.w = op.weight.as<const T>(),
                             .columns = size(op.weight, 0),
                             .column_stride = maps.channels * maps.taps(),
                             .channel_stride = maps.taps(),
                             .row_stride = maps.kernel_width};
    gemm(context, Convolution<T>{maps, weights},
         Finish<T>{.y = op.y.as<T>(),
                   .bias = op.bias.as<const float>(),
                   .addend = op.residual.as<const T>(),
                   .stride = weights.columns,
                   .relu = op.relu});
  });
}

}  // namespace glnet::cuda
