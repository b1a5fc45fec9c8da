// The gradient of a source. Where taps pay (aggregate_conv.h), and for a map that all patches share, in tap
// form: the adjoint of the gather gives G, and a 1x1 convolution with the taps' matrices the gradient on the
// source's own grid. G is made in slices of outputs and groups of patches that fit kProductBudget. Elsewhere
// an ordinary convolution of dy with the turned kernel gives the gradient on the target grid. Crops, and what
// was resized on the way, go through crop_resize_backward then.
#include <cstring>

#include "cpu/adjoint.h"
#include "cpu/convolution.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

int64_t round_up(int64_t n) {
  return (n + 15) / 16 * 16;
}

/// How an op is done; the same in `prepare` and in the kernel.
struct Plan {
  Plan(const AggregateConvBackwardData& op, int threads)
      : source(op.source),
        outputs(op.weight.dim(0)),
        area(op.weight.dim(2) * op.weight.dim(3)),
        shared(source.batch() == 1 && op.dy.dim(0) > 1),
        taps(shared || taps_pay(tap_cost(source), op.weight)),
        direct(!source.cropped() && (taps || source.sizes.empty())),
        slices(source, outputs, op.weight.dim(2)),
        adjoint(source, op.weight.dim(2), shared ? op.dy.dim(0) : 1) {
    if (!taps) slices.group = source.batch(), slices.slices = 1, slices.slice = outputs;
    height = taps ? source.base_height() : source.height();
    width = taps ? source.base_width() : source.width();
    accumulates = slices.slices > 1 || (direct && op.addend);
    const int64_t kernel = taps ? 1 : op.weight.dim(2);
    convolution = Convolution::get({.batch = slices.group,
                                    .height = height,
                                    .width = width,
                                    .channels = taps ? area * slices.slice : outputs,
                                    .outputs = source.channels(),
                                    .kernel_height = kernel,
                                    .kernel_width = kernel,
                                    .padding_height = kernel / 2,
                                    .padding_width = kernel / 2,
                                    .accumulate = accumulates,
                                    .threads = threads});
    scratch = round_up(static_cast<int64_t>(convolution->workspace_bytes()) / 4 + 1);
    if (taps) {
      g = round_up(slices.group * height * width * area * slices.slice);
      bands = threads * adjoint.band_floats(slices.slice);
    }
    if (direct) return;
    made = round_up(source.batch() * map_floats());
    last = source;
    if (taps) last.sizes.clear();
    last_bytes = crop_resize_backward_bytes(last, threads);
  }

  int64_t map_floats() const { return height * width * source.channels(); }
  size_t packed_slice_bytes() const { return (convolution->packed_bytes() + 63) / 64 * 64; }
  size_t workspace_bytes() const {
    return static_cast<size_t>(4 * (scratch + g + bands + made)) + last_bytes;
  }

  const MapGeometry& source;
  int64_t outputs, area;
  bool shared, taps;
  bool direct;  ///< the convolutions write dx; else a map from which dx is made
  TapSlices slices;
  TapAdjoint adjoint;
  int64_t height, width;  ///< of what the convolutions write
  bool accumulates;
  std::shared_ptr<const Convolution> convolution;
  MapGeometry last;  ///< what is left to be undone after the convolutions
  // The workspace, in floats but for what crop_resize_backward needs.
  int64_t scratch = 0, g = 0, bands = 0, made = 0;
  size_t last_bytes = 0;
};

/// Packs the input channels of a source as outputs: of taps as [C, k * k * slice], a slice after the other,
/// with zeros past the last output; else as [C, K, k, k] with the kernel turned.
void pack_adjoint(const Convolution& convolution, const Shape& weight, int64_t first, int64_t channels,
                  int64_t slice, bool taps, size_t packed_bytes, int threads, const float* from, void* to) {
  const int64_t outputs = weight[0], area = weight[2] * weight[3], row = area * slice;
  std::vector<float> dense(static_cast<size_t>(channels * row));
  for (int64_t begin = 0; begin < outputs; begin += slice) {
    parallel_for(threads, channels, [&](int64_t c) {
      float* matrix = dense.data() + c * row;
      for (int64_t k = 0; k < slice; ++k) {
        const float* kernel = from + ((begin + k) * weight[1] + first + c) * area;
        for (int64_t t = 0; t < area; ++t) {
          const float value = begin + k < outputs ? kernel[t] : 0;
          matrix[taps ? t * slice + k : k * area + area - 1 - t] = value;
        }
      }
    });
    convolution.pack(dense.data(),
                     static_cast<std::byte*>(to) + static_cast<size_t>(begin / slice) * packed_bytes);
  }
}

}  // namespace

void prepare_aggregate_conv_backward_data(const AggregateConvBackwardData& op, Prepare& prepare) {
  check_dtype(op.kName, "dy", op.dy, DType::float32);
  const Plan plan(op, prepare.threads());
  prepare.workspace(plan.workspace_bytes());
  std::ostringstream layout;
  layout << (plan.taps ? "taps" : "conv") << " to " << plan.source.channels() << " channels from " << op.first
         << ", outputs by " << plan.slices.slice << ", " << plan.convolution->layout();
  prepare.pack(op.weight, layout.str(), static_cast<size_t>(plan.slices.slices) * plan.packed_slice_bytes(),
               [convolution = plan.convolution, weight = op.weight.shape, first = op.first,
                channels = plan.source.channels(), slice = plan.slices.slice, taps = plan.taps,
                bytes = plan.packed_slice_bytes()](const Context& context, const void* from, void* to) {
                 pack_adjoint(*convolution, weight, first, channels, slice, taps, bytes, context.threads,
                              static_cast<const float*>(from), to);
               });
}

void aggregate_conv_backward_data(const AggregateConvBackwardData& op, const Context& context) {
  const Plan plan(op, context.threads);
  const auto [slice, slices, group] = plan.slices;
  auto* scratch = static_cast<float*>(context.workspace);
  float *g = scratch + plan.scratch, *bands = g + plan.g, *made = bands + plan.bands;
  float* to = plan.direct ? op.dx.as<float>() : made;
  const int64_t batch = plan.source.batch();
  if (plan.accumulates) {
    const float* addend = plan.direct ? op.addend.as<float>() : nullptr;
    parallel_ranges(context.threads, batch * plan.map_floats(), [&](int64_t begin, int64_t end) {
      const auto bytes = static_cast<size_t>(4 * (end - begin));
      if (addend) {
        std::memcpy(to + begin, addend + begin, bytes);
      } else {
        std::memset(to + begin, 0, bytes);
      }
    });
  }
  const auto* dy = op.dy.as<float>();
  const int64_t patch_floats = op.dy.size() / op.dy.dim(0);
  for (int64_t i = 0; i < slices; ++i) {
    const int64_t first = i * slice;
    const auto* packed =
        static_cast<const std::byte*>(context.packed[0]) + static_cast<size_t>(i) * plan.packed_slice_bytes();
    for (int64_t map = 0; map < batch; map += group) {
      const float* x = dy + map * patch_floats;
      if (plan.taps) {
        plan.adjoint.gather(context.threads, x + first, group, plan.outputs,
                            std::min(slice, plan.outputs - first), slice, bands, g);
        x = g;
      }
      plan.convolution->run(x, packed, nullptr, nullptr, to + map * plan.map_floats(), scratch);
    }
  }
  if (plan.direct) return;
  CropResizeBackward last{{}, plan.last, op.addend, op.dx};
  static_cast<View&>(last.dy) = {
      made, {batch, plan.height, plan.width, plan.source.channels()}, DType::float32, nullptr};
  Context rest = context;
  rest.workspace = made + plan.made;
  crop_resize_backward(last, rest);
}

}  // namespace glnet::cpu
