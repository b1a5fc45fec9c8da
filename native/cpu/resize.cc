#include <cstring>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/resample.h"

namespace glnet::cpu {
namespace {

template <class T>
void bilinear(const Resize& op, int threads) {
  const int64_t h = op.x.dim(1), w = op.x.dim(2), channels = op.x.dim(3), stride = w * channels;
  const AxisSampling rows = AxisSampling::bilinear(h, op.height),
                     columns = AxisSampling::bilinear(w, op.width);
  parallel_for(threads, op.y.dim(0) * op.height, [&](int64_t i) {
    const int64_t n = i / op.height, row = i % op.height;
    resample_row(op.y.as<T>() + i * op.width * channels,
                 RowSource<T>{op.x.as<const T>() + n * h * stride, stride, rows.begin(row), rows.end(row)},
                 columns, channels);
  });
}

void nearest(const Resize& op, int threads) {
  const int64_t h = op.x.dim(1), w = op.x.dim(2);
  const size_t pixel = static_cast<size_t>(op.x.dim(3)) * size_of(op.x.dtype);
  parallel_for(threads, op.y.dim(0) * op.height, [&](int64_t i) {
    const int64_t n = i / op.height, row = i % op.height * h / op.height;
    const auto* from = op.x.as<const std::byte>() + static_cast<size_t>((n * h + row) * w) * pixel;
    auto* to = op.y.as<std::byte>() + static_cast<size_t>(i * op.width) * pixel;
    for (int64_t column = 0; column < op.width; ++column, to += pixel) {
      std::memcpy(to, from + static_cast<size_t>(column * w / op.width) * pixel, pixel);
    }
  });
}

}  // namespace

void resize(const Resize& op, const Context& context) {
  if (op.interpolation == Interpolation::nearest) return nearest(op, context.threads);
  with_type(op.kName, op.x.dtype, [&](auto t) { bilinear<decltype(t)>(op, context.threads); });
}

}  // namespace glnet::cpu
