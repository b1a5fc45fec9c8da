#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/resample.h"
#ifdef GLNET_X86
#include "cpu/avx512/unfold.h"
#endif

namespace glnet::cpu {
namespace {

/// For each row (`axis` 0) or column (`axis` 1) of the kernel, what the positions of y read of the source.
std::vector<AxisSampling> samplings_of(const UnfoldResize& op, size_t axis) {
  const AxisSampling whole = sampling_of(op.source, axis);
  const int64_t length = whole.outputs();
  const AxisSampling last = AxisSampling::bilinear(length, axis == 0 ? op.height : op.width);
  std::vector<AxisSampling> samplings;
  for (int tap = 0; tap < op.kernel; ++tap) {
    samplings.push_back(whole.window(tap - op.kernel / 2, length).then(last));
  }
  return samplings;
}

}  // namespace

void prepare_unfold_resize([[maybe_unused]] const UnfoldResize& op, [[maybe_unused]] Prepare& prepare) {
#ifdef GLNET_X86
  if (unfolds(op)) prepare.workspace(unfold_workspace_bytes(op, prepare.threads()));
#endif
}

void unfold_resize(const UnfoldResize& op, const Context& context) {
#ifdef GLNET_X86
  if (unfolds(op)) return unfold(op, context);
#endif
  with_type(op.kName, op.source.x.dtype, [&](auto t) {
    using T = decltype(t);
    const GridSource& s = op.source;
    const int64_t channels = s.channels(), stride = s.x.dim(2) * channels, pixel = op.y.dim(3);
    const std::vector<AxisSampling> rows = samplings_of(op, 0), columns = samplings_of(op, 1);
    parallel_for(context.threads, s.batch() * op.height, [&](int64_t i) {
      const int64_t row = i % op.height;
      const auto n = static_cast<size_t>(i / op.height);
      const int64_t first =
          s.cropped() ? s.tops[n] * stride + s.lefts[n] * channels : i / op.height * s.x.dim(1) * stride;
      T* y = op.y.as<T>() + i * op.width * pixel;
      for (const AxisSampling& down : rows) {
        for (const AxisSampling& right : columns) {
          resample_row(y, RowSource<T>{s.x.as<const T>() + first, stride, down.begin(row), down.end(row)},
                       right, channels, pixel);
          y += channels;
        }
      }
    });
  });
}

}  // namespace glnet::cpu
