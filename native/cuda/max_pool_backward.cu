// max_pool_backward: each element of x gets the dy of the windows in which it is the first maximum, row by
// row; the first NaN, where there are any.
//
// Threads: one for each element of x, channels fastest, so that a warp reads neighbouring channels of each
// pixel. A thread goes through the windows that hold its element, row by row, and through each of these until
// something beats it: a gather, so that the sum has a fixed order. With 3 by 3 and stride 2 an element is in
// 2.25 windows on average. Values are read again from the L1 and L2 caches. Moves, from memory, x and dy in
// and dx out once. Floor, for 6 x 254x254x64 by 3 with stride 2 in float32, 223 MB: 67 us on an H100
// (3.35 TB/s), 221 us on an RTX 4090 (1.01 TB/s). Left: places of the maxima kept by max_pool, a byte each.
#include "cuda/common.cuh"

namespace glnet::cuda {
namespace {

struct Pool {
  int h, w;           ///< of x
  int height, width;  ///< of dy
  int channels;
  int kernel, stride, padding;
};

/// Whether x[r, s] is the first maximum of the window at (top, left). x: [h, w, channels], at the channel.
__device__ bool wins(const float* x, int r, int s, int top, int left, const Pool& p) {
  const float own = x[(static_cast<int64_t>(r) * p.w + s) * p.channels];
  for (int i = std::max(top, 0); i < std::min(top + p.kernel, p.h); ++i) {
    for (int j = std::max(left, 0); j < std::min(left + p.kernel, p.w); ++j) {
      if (i == r && j == s) continue;
      const bool before = i < r || (i == r && j < s);
      const float v = x[(static_cast<int64_t>(i) * p.w + j) * p.channels];
      // A NaN is beaten by one before it, and beats whatever is none.
      if (own != own ? before && v != v : v != v || v > own || (before && v == own)) return false;
    }
  }
  return true;
}

/// x, dx: [N, h, w, channels], n elements; dy: [N, height, width, channels].
__global__ void max_pool_backward_kernel(const float* dy, const float* x, float* dx, int64_t n, Pool p) {
  for (int64_t i = first_item(); i < n; i += item_step()) {
    const auto c = static_cast<int>(i % p.channels);
    int64_t rest = i / p.channels;
    const auto s = static_cast<int>(rest % p.w);
    rest /= p.w;
    const auto r = static_cast<int>(rest % p.h);
    const int64_t map = rest / p.h;
    const float* values = x + map * p.h * p.w * p.channels + c;
    const float* gradients = dy + map * p.height * p.width * p.channels + c;
    // The windows from `first` to `last` hold a row or column.
    const auto first = [&](int place) {
      const int beyond = place + p.padding - p.kernel;
      return beyond < 0 ? 0 : beyond / p.stride + 1;
    };
    const auto last = [&](int place, int count) {
      return std::min((place + p.padding) / p.stride, count - 1);
    };
    float sum = 0;
    for (int row = first(r); row <= last(r, p.height); ++row) {
      for (int column = first(s); column <= last(s, p.width); ++column) {
        if (wins(values, r, s, row * p.stride - p.padding, column * p.stride - p.padding, p)) {
          sum += gradients[(static_cast<int64_t>(row) * p.width + column) * p.channels];
        }
      }
    }
    dx[i] = sum;
  }
}

}  // namespace

void max_pool_backward(const MaxPoolBackward& op, const Context& context) {
  const auto side = [](const View& v, size_t i) { return static_cast<int>(v.dim(i)); };
  const int64_t n = op.x.size();
  launch(max_pool_backward_kernel, blocks_for(n), kThreads, 0, stream_of(context), op.dy.as<const float>(),
         op.x.as<const float>(), op.dx.as<float>(), n,
         Pool{side(op.x, 1), side(op.x, 2), side(op.dy, 1), side(op.dy, 2), side(op.x, 3), op.kernel,
              op.stride, op.padding});
}

}  // namespace glnet::cuda
