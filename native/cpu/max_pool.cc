#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

/// One row of outputs, from the rows `top` to before `bottom` of the map x.
template <class T>
GLNET_MULTIVERSION void pool_row(T* __restrict y, const T* x, int64_t top, int64_t bottom, int64_t w,
                                 int64_t channels, int64_t outputs, int64_t kernel, int64_t stride,
                                 int64_t padding) {
  for (int64_t column = 0; column < outputs; ++column, y += channels) {
    const int64_t left = std::max<int64_t>(column * stride - padding, 0);
    const int64_t right = std::min(column * stride - padding + kernel, w);
    constexpr int64_t kBlock = 64;
    for (int64_t first = 0; first < channels; first += kBlock) {
      const int64_t n = std::min(kBlock, channels - first);
      float largest[kBlock];
      const T* corner = x + (top * w + left) * channels + first;
      for (int64_t c = 0; c < n; ++c) largest[c] = static_cast<float>(corner[c]);
      for (int64_t r = top; r < bottom; ++r) {
        for (int64_t s = left; s < right; ++s) {
          const T* pixel = x + (r * w + s) * channels + first;
          for (int64_t c = 0; c < n; ++c) {
            const auto v = static_cast<float>(pixel[c]);
            // A NaN is taken, and then stays: no comparison with it is true.
            largest[c] = (v > largest[c]) | (v != v) ? v : largest[c];
          }
        }
      }
      for (int64_t c = 0; c < n; ++c) y[first + c] = T(largest[c]);
    }
  }
}

}  // namespace

void max_pool(const MaxPool& op, const Context& context) {
  with_type(op.kName, op.x.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t h = op.x.dim(1), w = op.x.dim(2), channels = op.x.dim(3);
    const int64_t height = op.y.dim(1), width = op.y.dim(2);
    parallel_for(context.threads, op.y.dim(0) * height, [&](int64_t i) {
      const int64_t top = i % height * op.stride - op.padding;
      pool_row(op.y.as<T>() + i * width * channels, op.x.as<const T>() + i / height * h * w * channels,
               std::max<int64_t>(top, 0), std::min(top + op.kernel, h), w, channels, width, op.kernel,
               op.stride, op.padding);
    });
  });
}

}  // namespace glnet::cpu
