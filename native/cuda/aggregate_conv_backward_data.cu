// aggregate_conv_backward_data: the gradient of one source, in one of two ways.
//
// Directly, where the source is on the target grid, one map for each patch: an implicit matrix product, as
// conv2d_backward_data's.
//
// By taps: dy is gathered to G, the gradient of each tap's products on the source's own grid, see
// tap_gradient.cu, and multiplied by the taps' matrices: pixels of the source, by its channels, by taps and
// outputs. G [pixels, k k, K] is a map of one row whose pixels are k k apart, and the taps a kernel of one
// row: the product of a convolution, see gemm.cuh. Crops, and patches that share a map, are added up in G, so
// that there is one product for all of them. G is made in slices of the outputs and groups of maps that fit
// scratch_bytes(); the products of the slices are added in dx.
//
// Bytes: dy, the weights, the addend and dx once, dx in and out again with each slice, and G out and in
// again, within reach of the L2 cache of the cards with 50 MB and more. Floor, for 6 sources of 64x64x128 to
// 127x127 with 512 outputs and a 3 x 3 kernel, 14.5 G multiply-adds and 213 MB: 433 us of arithmetic on an
// H100 (67 TFLOP/s; 64 us of bytes at 3.35 TB/s), 349 us on an RTX 4090 (83 TFLOP/s; 211 us at 1.01 TB/s).
// Considered: the gradient of each crop by itself, then all of them added to the map: as many products as
// crops have pixels, though crops of neighbouring patches overlap. Left: sources that are larger than the
// target, where the product would be smaller on the target grid.
#include "cuda/gemm.cuh"
#include "cuda/tap_gradient.cuh"

namespace glnet::cuda {
namespace {

using Op = AggregateConvBackwardData;

bool is_direct(const Op& op) {
  const MapGeometry& s = op.source;
  return !s.cropped() && s.sizes.empty() && s.map_dim(0) == op.dy.dim(0);
}

TapGradient taps_of(const Op& op) {
  return {op.kName, op.dy, op.source, op.weight.dim(2)};
}

/// The weights of the source's channels as columns, from an output on.
Weights<float> weights_of(const Op& op, int64_t output) {
  const auto kernel = static_cast<int>(op.weight.dim(2)), area = kernel * kernel;
  const auto stride = static_cast<int>(op.weight.dim(1)) * area;
  return {.w = op.weight.as<const float>() + output * stride + int64_t{op.first} * area,
          .columns = static_cast<int>(op.source.channels()),
          .column_stride = area,
          .channel_stride = stride,
          .row_stride = kernel};
}

/// The end of a sum for dx, from a pixel on; `more` adds to what is there.
Finish<float> finish_of(const Op& op, int64_t pixel, bool more) {
  const auto channels = static_cast<int>(op.source.channels());
  float* dx = op.dx.as<float>() + pixel * channels;
  Finish<float> f{.y = dx, .stride = channels, .sums_stride = channels};
  if (more) {
    f.so_far = dx;
  } else if (op.addend) {
    f.addend = op.addend.as<const float>() + pixel * channels;
  }
  return f;
}

void directly(const Op& op, const Context& context) {
  const auto size = [&](size_t i) { return static_cast<int>(op.dy.dim(i)); };
  const auto kernel = static_cast<int>(op.weight.dim(2));
  const Maps<float> maps{.x = op.dy.as<const float>(),
                         .height = size(1),
                         .width = size(2),
                         .channels = size(3),
                         .map_stride = size(1) * size(2),
                         .out_height = size(1),
                         .out_width = size(2),
                         .patches = size(0),
                         .kernel_height = kernel,
                         .kernel_width = kernel,
                         .top = kernel / 2,
                         .left = kernel / 2,
                         .tap_stride = -1};
  gemm(context, Convolution<float>{maps, weights_of(op, 0)}, finish_of(op, 0, false));
}

/// The products of `count` pixels of G with the taps' matrices.
Convolution<float> product_of(const Op& op, const float* gradient, int64_t count, int64_t output,
                              int64_t outputs) {
  const auto area = static_cast<int>(op.weight.dim(2) * op.weight.dim(3)), pixels = static_cast<int>(count);
  return {{.x = gradient,
           .height = 1,
           .width = pixels * area,
           .channels = static_cast<int>(outputs),
           .map_stride = pixels * area,
           .out_height = 1,
           .out_width = pixels,
           .patches = 1,
           .kernel_width = area,
           .stride = area},
          weights_of(op, output)};
}

void by_taps(const Op& op, const Context& context) {
  const TapGradient taps = taps_of(op);
  auto* workspace = static_cast<std::byte*>(context.workspace);
  auto* gradient = reinterpret_cast<float*>(workspace + round_up(taps.table_bytes(), 64));
  const int64_t outputs = op.dy.dim(3), width = op.source.map_dim(2);
  const int64_t begin = taps.first_row() * width, end = begin + taps.maps() * taps.pixels();
  const TapGradient::Tables tables = taps.fill_tables(context, workspace);
  for (int64_t map = 0; map < taps.maps(); map += taps.group()) {
    const int64_t maps = std::min(taps.group(), taps.maps() - map);
    for (int64_t output = 0; output < outputs; output += taps.slice()) {
      const int64_t count = std::min(taps.slice(), outputs - output);
      taps.gather(context, tables, map, maps, output, count, gradient);
      gemm(context, product_of(op, gradient, maps * taps.pixels(), output, count),
           finish_of(op, map * taps.pixels() + begin, output > 0));
    }
  }
  // Rows that no patch reads: products of no terms.
  const auto clear = [&](int64_t from, int64_t to) {
    if (from < to) gemm(context, product_of(op, nullptr, to - from, 0, 0), finish_of(op, from, false));
  };
  clear(0, begin);
  clear(end, op.dx.size() / op.source.channels());
}

}  // namespace

void prepare_aggregate_conv_backward_data(const AggregateConvBackwardData& op, Prepare& prepare) {
  check_gemm(op.kName, op.dy.dtype,
             std::max(op.dx.size() / op.dx.dim(3) * op.weight.dim(2) * op.weight.dim(3),
                      op.dy.size() / op.dy.dim(3)),
             op.weight.size());
  if (is_direct(op)) return;
  const TapGradient taps = taps_of(op);
  prepare.workspace(static_cast<size_t>(round_up(taps.table_bytes(), 64) + taps.bytes()));
}

void aggregate_conv_backward_data(const AggregateConvBackwardData& op, const Context& context) {
  if (is_direct(op)) {
    directly(op, context);
  } else {
    by_taps(op, context);
  }
}

}  // namespace glnet::cuda
