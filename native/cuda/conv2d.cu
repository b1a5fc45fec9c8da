// conv2d: an implicit matrix product, see gemm.cu and, for bfloat16 on tensor cores, tensor_gemm.cu for
// threads and data.
//
// Moves, from memory, x, the weights, the residual and y once: a block of 128 x 128 reads each element of its
// rows' pixels once a tap and column of tiles, from the L2 cache, and each weight once a row of tiles. Floor,
// for 127x127x64 to 64 with a 3 x 3 kernel, 0.59 G multiply-adds and 8.4 MB in float32: 18 us of arithmetic
// on an H100 (67 TFLOP/s; 2.5 us of bytes at 3.35 TB/s), 14 us on an RTX 4090 (83 TFLOP/s; 8.3 us of bytes at
// 1.01 TB/s).
// Considered, for float32: weights packed as [K, taps, C], which would make their reads contiguous, but is a
// second copy of those that are trained; Winograd's transform, which needs transformed weights or loses them
// again.
#include "cuda/tensor_gemm.cuh"

namespace glnet::cuda {
namespace {

int size_of(const View& v, size_t i) {
  return static_cast<int>(v.dim(i));
}

/// Of the op, without the weights.
TensorProduct product_of(const Conv2d& op) {
  TensorProduct product{.height = size_of(op.x, 1),
                        .width = size_of(op.x, 2),
                        .out_height = size_of(op.y, 1),
                        .out_width = size_of(op.y, 2),
                        .patches = size_of(op.y, 0),
                        .kernel_height = size_of(op.weight, 2),
                        .kernel_width = size_of(op.weight, 3),
                        .stride = op.stride,
                        .top = -op.padding,
                        .left = -op.padding,
                        .columns = size_of(op.weight, 0),
                        .outputs = size_of(op.weight, 0),
                        .room = size_of(op.weight, 0),
                        .column_stride = static_cast<int>(op.weight.size() / op.weight.dim(0)),
                        .row_stride = size_of(op.weight, 3) * size_of(op.weight, 1),
                        .tap_stride = size_of(op.weight, 1)};
  product.add(op.x.as<const bfloat16>(), op.x.dim(3), op.x.dim(1) * op.x.dim(2), 0);
  return product;
}

/// The workspace begins with the map that is pooled.
size_t map_bytes(const Conv2d& op) {
  return op.pool ? static_cast<size_t>(round_up(static_cast<int64_t>(op.unpooled().y.bytes()), 64)) : 0;
}

}  // namespace

void prepare_conv2d(const Conv2d& op, Prepare& prepare) {
  const Conv2d plain = op.unpooled();
  check_gemm(op.kName, op.x.dtype, std::max(op.x.size() / op.x.dim(3), plain.y.size() / plain.y.dim(3)),
             op.weight.size());
  size_t bytes = map_bytes(op);
  if (on_tensor_cores(op.x.dtype)) {
    const TensorProduct product = product_of(plain);
    pack_tensor_weight(prepare, op.weight);
    bytes += tensor_cut(product.rows(), product.columns, product.depth()).bytes;
  }
  prepare.workspace(bytes);
}

void conv2d(const Conv2d& op, const Context& context) {
  if (op.pool) {
    Conv2d plain = op.unpooled();
    plain.y.data = context.workspace;
    Context rest = context;
    rest.workspace = static_cast<std::byte*>(context.workspace) + map_bytes(op);
    conv2d(plain, rest);
    MaxPool pool = Conv2d::pooled(plain.y);
    pool.y = op.y;
    return max_pool(pool, context);
  }
  if (on_tensor_cores(op.x.dtype)) {
    TensorProduct product = product_of(op);
    product.weights = tensor_weight(op.weight, context);
    return tensor_gemm(context, product,
                       Finish<bfloat16>{.y = op.y.as<bfloat16>(),
                                        .bias = op.bias.as<const float>(),
                                        .addend = op.residual.as<const bfloat16>(),
                                        .stride = product.columns,
                                        .relu = op.relu},
                       context.workspace);
  }
  with_type(op.kName, op.x.dtype, [&](auto t) {
    using T = decltype(t);
    const Maps<T> maps{.x = op.x.as<const T>(),
                       .height = size_of(op.x, 1),
                       .width = size_of(op.x, 2),
                       .channels = size_of(op.x, 3),
                       .map_stride = size_of(op.x, 1) * size_of(op.x, 2),
                       .out_height = size_of(op.y, 1),
                       .out_width = size_of(op.y, 2),
                       .patches = size_of(op.y, 0),
                       .kernel_height = size_of(op.weight, 2),
                       .kernel_width = size_of(op.weight, 3),
                       .stride = op.stride,
                       .top = -op.padding,
                       .left = -op.padding};
    const Weights<T> weights{.w = op.weight.as<const T>(),
                             .columns = size_of(op.weight, 0),
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
