#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

struct Window {
  int64_t kernel, stride, padding;
};

/// Adds one row of windows, from the rows `top` to before `bottom` of the map x, to the rows `begin` to
/// before `end` of dx. Windows come in their order, and a row of dx belongs to one thread: each element is a
/// sum in a fixed order.
GLNET_MULTIVERSION void add_row(float* dx, const float* dy, const float* x, int64_t top, int64_t bottom,
                                int64_t begin, int64_t end, int64_t w, int64_t channels, int64_t outputs,
                                Window window) {
  for (int64_t column = 0; column < outputs; ++column, dy += channels) {
    const int64_t left = std::max<int64_t>(column * window.stride - window.padding, 0);
    const int64_t right = std::min(column * window.stride - window.padding + window.kernel, w);
    constexpr int64_t kBlock = 64;
    for (int64_t first = 0; first < channels; first += kBlock) {
      const int64_t n = std::min(kBlock, channels - first);
      float largest[kBlock];
      int32_t best[kBlock];
      const float* corner = x + (top * w + left) * channels + first;
      for (int64_t c = 0; c < n; ++c) largest[c] = corner[c], best[c] = 0;
      int32_t place = 0;
      for (int64_t r = top; r < bottom; ++r) {
        for (int64_t s = left; s < right; ++s, ++place) {
          const float* pixel = x + (r * w + s) * channels + first;
          for (int64_t c = 0; c < n; ++c) {
            const float v = pixel[c];
            // The first NaN is taken, and then stays.
            const bool takes = (v > largest[c]) | ((v != v) & (largest[c] == largest[c]));
            largest[c] = takes ? v : largest[c];
            best[c] = takes ? place : best[c];
          }
        }
      }
      for (int64_t r = std::max(top, begin); r < std::min(bottom, end); ++r) {
        place = static_cast<int32_t>((r - top) * (right - left));
        for (int64_t s = left; s < right; ++s, ++place) {
          float* sum = dx + (r * w + s) * channels + first;
          for (int64_t c = 0; c < n; ++c) {
            const float g = dy[first + c];
            sum[c] += best[c] == place ? g : 0.0f;
          }
        }
      }
    }
  }
}

}  // namespace

void max_pool_backward(const MaxPoolBackward& op, const Context& context) {
  const int64_t h = op.x.dim(1), w = op.x.dim(2), channels = op.x.dim(3);
  const int64_t height = op.dy.dim(1), width = op.dy.dim(2);
  const Window window{op.kernel, op.stride, op.padding};
  parallel_ranges(context.threads, op.x.dim(0) * h, [&](int64_t first, int64_t last) {
    while (first < last) {
      // The rows of one map.
      const int64_t map = first / h, begin = first % h, end = std::min(h, begin + last - first);
      const auto* x = op.x.as<const float>() + map * h * w * channels;
      float* dx = op.dx.as<float>() + map * h * w * channels;
      int64_t zeroed = begin;
      for (int64_t row = 0; row < height; ++row) {
        const int64_t top = row * window.stride - window.padding;
        const int64_t bottom = std::min(top + window.kernel, h);
        if (bottom <= begin || top >= end) continue;
        // Just before they are added to.
        const int64_t reach = std::min(bottom, end);
        std::fill(dx + zeroed * w * channels, dx + std::max(reach, zeroed) * w * channels, 0.0f);
        zeroed = std::max(reach, zeroed);
        add_row(dx, op.dy.as<const float>() + (map * height + row) * width * channels, x,
                std::max<int64_t>(top, 0), bottom, begin, end, w, channels, width, window);
      }
      std::fill(dx + zeroed * w * channels, dx + end * w * channels, 0.0f);
      first += end - begin;
    }
  });
}

}  // namespace glnet::cpu
