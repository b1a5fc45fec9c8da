// decode_patches: cuts patches out of 8-bit pixels, mirrored past the edges of the image, and decodes them to
// [0, 1].
//
// Threads: one for four neighbouring elements of an output row, where rows are whole fours, or else for one,
// looping over the grid: a warp writes 8 or 16 bytes a thread. The turn is affine: a pixel of the turned
// window lies at origin + y * down + x * right. Where patches begin comes with the launch, as
// many as its parameters hold: no copy to the device. Moves a byte in and an element out. Floor, for 6
// patches of 508x508x3 in float32, 23 MB: 6.9 us on an H100 (3.35 TB/s), 23 us on an RTX 4090 (1.01 TB/s).
// Considered: tiles in shared memory for quarter turns, whose reads go down columns. The L2 cache holds what
// the blocks that run together read: 2448 x 2448 x 3 bytes are 18 MB.
#include "cuda/corners.cuh"
#include "cuda/lanes.cuh"

namespace glnet::cuda {
namespace {

struct TurnedWindow {
  int height, width;
  int64_t origin, down, right;
};

/// Position i on an axis that is continued by its mirror images, the edges not repeated.
__device__ int mirrored(int i, int length) {
  if (i < length) return i;
  if (length == 1) return 0;
  const int period = 2 * (length - 1);
  i %= period;
  return i < length ? i : period - i;
}

/// y: [patches, height, width, channels], n packs of neighbouring elements.
template <class T, int kLanes>
__global__ void decode_kernel(const uint8_t* x, T* y, int64_t n, int height, int width, int channels,
                              TurnedWindow window, Corners corners) {
  const int packs = width * channels / kLanes;
  for (int64_t i = first_item(); i < n; i += item_step()) {
    const int64_t line = i / packs;
    const auto row = static_cast<int>(line % height), patch = static_cast<int>(line / height);
    const auto first = static_cast<int>(i % packs) * kLanes;
    const uint8_t* from =
        x + window.origin + mirrored(corners.tops[patch] + row, window.height) * window.down;
    const int left = corners.lefts[patch];
    int column = first / channels, c = first % channels;
    const uint8_t* pixel = from + mirrored(left + column, window.width) * window.right;
    float values[kLanes];
    UNROLL
    for (int j = 0; j < kLanes; ++j) {
      // A true division: 1 / 255 is not a float32.
      values[j] = static_cast<float>(pixel[c]) / 255.0f;
      if (++c < channels) continue;
      c = 0;
      pixel = from + mirrored(left + ++column, window.width) * window.right;
    }
    write_lanes(y + i * kLanes, values);
  }
}

}  // namespace

void decode_patches(const DecodePatches& op, const Context& context) {
  with_type(op.kName, op.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t h = op.x.dim(0), w = op.x.dim(1), channels = op.x.dim(2);
    const auto offset = [&](int64_t y, int64_t x) {
      const auto [row, column] = turn_source(op.turn, h, w, y, x);
      return (row * w + column) * channels;
    };
    const int64_t origin = offset(0, 0);
    const bool swapped = turn_swaps(op.turn);
    const TurnedWindow window{static_cast<int>(swapped ? w : h), static_cast<int>(swapped ? h : w), origin,
                              offset(1, 0) - origin, offset(0, 1) - origin};
    const int64_t elements = op.y.size() / op.y.dim(0);
    for_each_corners(op.tops, op.lefts, [&](int64_t first, int64_t count, const Corners& corners) {
      with_lanes<4>(op.width * channels, [&](auto lanes) {
        const int64_t n = count * elements / lanes;
        launch(decode_kernel<T, lanes>, blocks_for(n), kThreads, 0, stream_of(context),
               op.x.as<const uint8_t>(), op.y.as<T>() + first * elements, n, op.height, op.width, channels,
               window, corners);
      });
    });
  });
}

}  // namespace glnet::cuda
