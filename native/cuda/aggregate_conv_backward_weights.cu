// aggregate_conv_backward_weights: the gradient of the weights of one source's channels, in the cheaper of
// two ways.
//
// Directly, where the source is on the target grid: the product of conv2d_backward_weights, which sums over
// pixels in parts, in a fixed order.
//
// By taps: dy is gathered to G, the gradient of each tap's products on the source's own grid, see
// tap_gradient.cu. Then the gradient is channels of x, by taps and outputs, by pixels, which is that product
// with one tap. Crops, and patches that share a map, are added up in G: x is read as it is. G is made in
// slices of the outputs and groups of maps that fit scratch_bytes(); the groups are added in dweight.
//
// Bytes: dy once, x once a slice, dweight twice, and G out and in again, within reach of the L2 cache of the
// cards with 50 MB and more. Floor, for 6 sources of 64x64x128 to 127x127 with 512 outputs and a 3 x 3
// kernel, 14.5 G multiply-adds and 216 MB: 433 us of arithmetic on an H100 (67 TFLOP/s; 64 us of bytes
// at 3.35 TB/s), 349 us on an RTX 4090 (83 TFLOP/s; 214 us at 1.01 TB/s). Considered: the crops of x made
// first, as the forward does: as many pixels as all crops have, though those of neighbouring patches overlap.
// Left: sources that are larger than the target, where the product would be smaller on the target grid.
#include "cuda/tap_gradient.cuh"
#include "cuda/weight_gradient.cuh"

namespace glnet::cuda {
namespace {

using Op = AggregateConvBackwardWeights;

bool is_direct(const Op& op) {
  const GridSource& s = op.source;
  if (s.cropped() || !s.sizes.empty()) return false;
  // With few outputs, taps make the tiles less narrow. A term of the gather costs about as much as eight.
  const int64_t outputs = op.dweight.dim(0), kernel = op.dweight.dim(2), area = kernel * kernel;
  const int64_t maps = s.batch(), patches = op.dy.dim(0);
  return patches * area * s.channels() * column_cost(outputs) <=
         maps * s.channels() * column_cost(area * outputs) + 8 * patches * outputs * (kernel + area);
}

/// The gradients of the source's channels, from an output on.
WeightSlice slice_of(const Op& op, int64_t output, int64_t outputs) {
  const auto area = static_cast<int>(op.dweight.dim(2) * op.dweight.dim(3));
  const auto stride = static_cast<int>(op.dweight.dim(1)) * area;
  return {.w = op.dweight.as<float>() + output * stride + int64_t{op.first} * area,
          .outputs = static_cast<int>(outputs),
          .channels = static_cast<int>(op.source.channels()),
          .area = area,
          .output_stride = stride};
}

/// The source on the target grid.
Maps<float> direct_maps(const Op& op) {
  const auto size = [&](size_t i) { return static_cast<int>(op.dy.dim(i)); };
  const auto kernel = static_cast<int>(op.dweight.dim(2));
  return {.x = op.source.x.as<const float>(),
          .height = size(1),
          .width = size(2),
          .channels = static_cast<int>(op.source.channels()),
          .map_stride = op.source.batch() == 1 ? 0 : size(1) * size(2),
          .out_height = size(1),
          .out_width = size(2),
          .patches = size(0),
          .kernel_height = kernel,
          .kernel_width = kernel,
          .top = -(kernel / 2),
          .left = -(kernel / 2)};
}

/// How the source is summed by taps, and where things lie in the workspace: tables, G, sums.
struct Plan {
  MapGeometry geometry;
  TapGradient taps;
  int64_t gradient, sums, bytes;

  explicit Plan(const Op& op)
      : geometry(op.source.geometry()), taps(op.kName, op.dy, geometry, op.dweight.dim(2)) {
    gradient = round_up(taps.table_bytes(), 64);
    sums = round_up(gradient + taps.bytes(), 64);
    // The last group and slice may be smaller, and are divided otherwise.
    int64_t most = 0;
    for_each_slice(op, [&](int64_t, int64_t maps, int64_t, int64_t outputs) {
      most = std::max(
          most, weight_gradient_bytes(op.source.channels(), taps.area() * outputs, maps * taps.pixels()));
    });
    bytes = sums + most;
  }

  /// Calls body(map, maps, output, outputs).
  template <class Body>
  void for_each_slice(const Op& op, Body&& body) const {
    const int64_t outputs = op.dy.dim(3);
    for (int64_t map = 0; map < taps.maps(); map += taps.group()) {
      for (int64_t output = 0; output < outputs; output += taps.slice()) {
        body(map, std::min(taps.group(), taps.maps() - map), output,
             std::min(taps.slice(), outputs - output));
      }
    }
  }
};

void by_taps(const Op& op, const Context& context) {
  const Plan plan(op);
  const TapGradient& taps = plan.taps;
  auto* workspace = static_cast<std::byte*>(context.workspace);
  auto* gradient = reinterpret_cast<float*>(workspace + plan.gradient);
  const TapGradient::Tables tables = taps.fill_tables(context, workspace);
  plan.for_each_slice(op, [&](int64_t map, int64_t maps, int64_t output, int64_t outputs) {
    taps.gather(context, tables, map, maps, output, outputs, gradient);
    const int64_t first = map * taps.pixels() + taps.first_row() * op.source.x.dim(2);
    const auto pixels = static_cast<int>(maps * taps.pixels());
    weight_gradient(context,
                    Maps<float>{.x = op.source.x.as<const float>() + first * op.source.channels(),
                                .height = 1,
                                .width = pixels,
                                .channels = static_cast<int>(op.source.channels()),
                                .map_stride = 0,
                                .out_height = 1,
                                .out_width = pixels,
                                .patches = 1},
                    gradient, slice_of(op, output, outputs), workspace + plan.sums);
  });
}

}  // namespace

void prepare_aggregate_conv_backward_weights(const AggregateConvBackwardWeights& op, Prepare& prepare) {
  const int64_t pixels = op.dy.size() / op.dy.dim(3), channels = op.source.channels();
  const int64_t area = op.dweight.dim(2) * op.dweight.dim(3);
  check_gemm(op.kName, op.dy.dtype, std::max(op.source.x.size() / channels, pixels), op.dweight.size());
  prepare.workspace(static_cast<size_t>(
      is_direct(op) ? weight_gradient_bytes(area * channels, op.dy.dim(3), pixels) : Plan(op).bytes));
}

void aggregate_conv_backward_weights(const AggregateConvBackwardWeights& op, const Context& context) {
  if (!is_direct(op)) return by_taps(op, context);
  weight_gradient(context, direct_maps(op), op.dy.as<const float>(), slice_of(op, 0, op.dy.dim(3)),
                  context.workspace);
}

}  // namespace glnet::cuda
