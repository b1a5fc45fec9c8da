// The gradient of the weight for one source, in tap form: the adjoint of the gather gives G on the source's
// own grid, in slices of outputs and groups of patches that fit kProductBudget, and the product of its
// transpose with x the gradient. Each thread computes rows of the product, kChunk pixels at a time in
// float32, and adds these in double.
#include "cpu/adjoint.h"
#include "cpu/dnnl.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

constexpr int64_t kChunk = 4096;

int64_t round_up(int64_t n) {
  return (n + 15) / 16 * 16;
}

/// How an op is done; the same in `prepare` and in the kernel.
struct Plan {
  Plan(const AggregateConvBackwardWeights& op, int threads)
      : source(op.source.geometry()),
        outputs(op.dweight.dim(0)),
        area(op.dweight.dim(2) * op.dweight.dim(3)),
        channels(source.channels()),
        pixels(source.base_height() * source.base_width()),
        slices(source, outputs, op.dweight.dim(2)),
        adjoint(source, op.dweight.dim(2), source.batch() == 1 ? op.dy.dim(0) : 1),
        rows(area * slices.slice) {
    g = round_up(slices.group * pixels * rows);
    products = round_up(rows * channels);
    bands = threads * adjoint.band_floats(slices.slice);
    if (source.cropped()) crops = round_up(source.batch() * pixels * channels);
  }

  /// In float: products, then sums of them in double.
  size_t workspace_bytes() const { return static_cast<size_t>(4 * (g + 3 * products + bands + crops)); }

  MapGeometry source;
  int64_t outputs, area, channels, pixels;
  TapSlices slices;
  TapAdjoint adjoint;
  int64_t rows;  ///< of the product of a slice: taps times outputs
  // The workspace, in floats.
  int64_t g, products, bands, crops = 0;
};

GLNET_MULTIVERSION void add_in_double(const float* from, int64_t n, bool first, double* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = (first ? 0 : to[i]) + from[i];
}

/// sums [rows, columns] = [sums +] transpose(a [pixels, rows]) b [pixels, columns].
void add_product(int threads, int64_t rows, int64_t columns, int64_t pixels, const float* a, const float* b,
                 bool first, float* product, double* sums) {
  parallel_ranges(threads, rows, [&](int64_t begin, int64_t end) {
    for (int64_t pixel = 0; pixel < pixels; pixel += kChunk) {
      multiply_transposed(end - begin, columns, std::min(kChunk, pixels - pixel), a + pixel * rows + begin,
                          rows, b + pixel * columns, columns, false, product + begin * columns);
      add_in_double(product + begin * columns, (end - begin) * columns, first && pixel == 0,
                    sums + begin * columns);
    }
  });
}

}  // namespace

void prepare_aggregate_conv_backward_weights(const AggregateConvBackwardWeights& op, Prepare& prepare) {
  check_dtype(op.kName, "dy", op.dy, DType::float32);
  prepare.workspace(Plan(op, prepare.threads()).workspace_bytes());
}

void aggregate_conv_backward_weights(const AggregateConvBackwardWeights& op, const Context& context) {
  const Plan plan(op, context.threads);
  const auto [slice, slices, group] = plan.slices;
  auto* g = static_cast<float*>(context.workspace);
  auto* sums = reinterpret_cast<double*>(g + plan.g);
  float *product = g + plan.g + 2 * plan.products, *bands = product + plan.products;
  const float* x = op.source.x.as<float>();
  if (plan.source.cropped()) {
    CropResize crop;
    crop.sources = {op.source};
    crop.sources[0].sizes.clear();
    crop.infer();
    crop.y.data = bands + plan.bands;
    crop_resize(crop, context);
    x = crop.y.as<float>();
  }
  const int64_t patch_floats = op.dy.size() / op.dy.dim(0), area = plan.area, channels = plan.channels;
  for (int64_t first = 0; first < plan.outputs; first += slice) {
    const int64_t n = std::min(slice, plan.outputs - first);
    for (int64_t map = 0; map < plan.source.batch(); map += group) {
      plan.adjoint.gather(context.threads, op.dy.as<float>() + map * patch_floats + first, group,
                          plan.outputs, n, slice, bands, g);
      add_product(context.threads, plan.rows, channels, group * plan.pixels, g,
                  x + map * plan.pixels * channels, map == 0, product, sums);
    }
    parallel_for(context.threads, n, [&](int64_t k) {
      float* to = op.dweight.as<float>() + ((first + k) * op.dweight.dim(1) + op.first) * area;
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t t = 0; t < area; ++t, ++to) {
          *to = static_cast<float>(*to + sums[(t * slice + k) * channels + c]);
        }
      }
    });
  }
}

}  // namespace glnet::cpu
