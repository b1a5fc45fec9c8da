#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/resample.h"

namespace glnet::cpu {

// A chain of resizes is composed along each axis first: the maps between are never built.
void crop_resize(const CropResize& op, const Context& context) {
  with_type(op.kName, op.y.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t height = op.y.dim(1), width = op.y.dim(2), channels = op.y.dim(3);
    int64_t offset = 0;
    for (const GridSource& s : op.sources) {
      const int64_t stride = s.x.dim(2) * s.channels();
      const AxisSampling rows = sampling_of(s, 0), columns = sampling_of(s, 1);
      parallel_for(context.threads, op.y.dim(0) * height, [&](int64_t i) {
        const int64_t row = i % height, patch = s.batch() == 1 ? 0 : i / height;
        const auto n = static_cast<size_t>(patch);
        const int64_t first =
            s.cropped() ? s.tops[n] * stride + s.lefts[n] * s.channels() : patch * s.x.dim(1) * stride;
        resample_row(op.y.as<T>() + i * width * channels + offset,
                     RowSource<T>{s.x.as<const T>() + first, stride, rows.begin(row), rows.end(row)}, columns,
                     s.channels(), channels);
      });
      offset += s.channels();
    }
  });
}

}  // namespace glnet::cpu
