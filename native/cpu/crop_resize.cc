#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/resample.h"

namespace glnet::cpu {

// A chain of resizes is composed along each axis first: the maps between are never built.
void crop_resize(const CropResize& op, const Context& context) {
  with_type(op.kName, op.source.x.dtype, [&](auto t) {
    using T = decltype(t);
    const GridSource& s = op.source;
    const int64_t channels = s.channels(), stride = s.x.dim(2) * channels;
    const int64_t height = s.height(), width = s.width();
    const AxisSampling rows = sampling_of(s, 0), columns = sampling_of(s, 1);
    parallel_for(context.threads, s.batch() * height, [&](int64_t i) {
      const int64_t row = i % height;
      const auto n = static_cast<size_t>(i / height);
      const int64_t first =
          s.cropped() ? s.tops[n] * stride + s.lefts[n] * channels : i / height * s.x.dim(1) * stride;
      resample_row(op.y.as<T>() + i * width * channels,
                   RowSource<T>{s.x.as<const T>() + first, stride, rows.begin(row), rows.end(row)}, columns,
                   channels);
    });
  });
}

}  // namespace glnet::cpu
