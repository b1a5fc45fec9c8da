#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/resample.h"

namespace glnet::cpu {
namespace {

GLNET_MULTIVERSION void divide_row(float* sum, float row_coverage, const float* column_coverage,
                                   int64_t width, int64_t channels) {
  for (int64_t column = 0; column < width; ++column, sum += channels) {
    const float coverage = row_coverage * column_coverage[column];
    for (int64_t c = 0; c < channels; ++c) sum[c] = coverage == 0 ? 0.0f : sum[c] / coverage;
  }
}

}  // namespace

// Rows of the sum are shared out, not patches: no two threads write the same pixel, and each pixel's patches
// are added in their order.
void merge_patches(const MergePatches& op, const Context& context) {
  with_type(op.kName, op.x.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t h = op.x.dim(1), w = op.x.dim(2), channels = op.x.dim(3), stride = w * channels;
    const int64_t width = op.sum.dim(2);
    const AxisSampling rows = AxisSampling::bilinear(h, op.height),
                       columns = AxisSampling::bilinear(w, op.width);
    parallel_for(context.threads, op.sum.dim(1), [&](int64_t row) {
      float* sum = op.sum.as<float>() + row * width * channels;
      for (size_t n = 0; n < op.tops.size(); ++n) {
        const int64_t r = row - op.tops[n];
        if (r < 0 || r >= op.height) continue;
        add_resampled_row(sum + op.lefts[n] * channels,
                          RowSource<T>{op.x.as<const T>() + static_cast<int64_t>(n) * h * stride, stride,
                                       rows.begin(r), rows.end(r)},
                          columns, channels);
      }
      if (op.row_coverage.empty()) return;
      divide_row(sum, op.row_coverage[static_cast<size_t>(row)], op.column_coverage.data(), width, channels);
    });
  });
}

}  // namespace glnet::cpu
