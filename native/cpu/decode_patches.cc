#include <array>

#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

/// Position i on an axis that is continued by its mirror images, the edges not repeated.
int64_t mirror(int64_t i, int64_t length) {
  if (i < length) return i;
  if (length == 1) return 0;
  i %= 2 * (length - 1);
  return i < length ? i : 2 * (length - 1) - i;
}

/// n bytes. A true division: 1 / 255 is not a float32, and a product with it would be off by one bit here and
/// there.
template <class T>
GLNET_MULTIVERSION void decode(T* __restrict y, const uint8_t* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = T(static_cast<float>(x[i]) / 255.0f);
}

/// What each byte stands for.
template <class T>
std::array<T, 256> decoded() {
  std::array<uint8_t, 256> bytes;
  for (size_t i = 0; i < 256; ++i) bytes[i] = static_cast<uint8_t>(i);
  std::array<T, 256> values;
  decode(values.data(), bytes.data(), 256);
  return values;
}

/// Pixels that lie `step` bytes apart.
template <class T>
void decode(const std::array<T, 256>& values, T* __restrict y, const uint8_t* x, int64_t pixels, int64_t step,
            int64_t channels) {
  if (channels == 3) {
    for (int64_t i = 0; i < pixels; ++i, x += step, y += 3) {
      for (int64_t c = 0; c < 3; ++c) y[c] = values[x[c]];
    }
    return;
  }
  for (int64_t i = 0; i < pixels; ++i, x += step, y += channels) {
    for (int64_t c = 0; c < channels; ++c) y[c] = values[x[c]];
  }
}

}  // namespace

void decode_patches(const DecodePatches& op, const Context& context) {
  with_type(op.kName, op.dtype, [&](auto t) {
    using T = decltype(t);
    const std::array<T, 256> values = decoded<T>();
    const int64_t h = op.x.dim(0), w = op.x.dim(1), channels = op.x.dim(2);
    const int64_t turned_h = turn_swaps(op.turn) ? w : h, turned_w = turn_swaps(op.turn) ? h : w;
    // The turn is affine: the offset of a pixel of the turned window is origin + y * down + x * right.
    const auto offset = [&](int64_t y, int64_t x) {
      const auto [row, column] = turn_source(op.turn, h, w, y, x);
      return (row * w + column) * channels;
    };
    const int64_t origin = offset(0, 0), down = offset(1, 0) - origin, right = offset(0, 1) - origin;
    // A thread takes neighbouring rows: those of a quarter turn share cache lines.
    parallel_ranges(context.threads, op.y.dim(0) * op.height, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto n = static_cast<size_t>(i / op.height);
        const uint8_t* row =
            op.x.as<const uint8_t>() + origin + mirror(op.tops[n] + i % op.height, turned_h) * down;
        T* y = op.y.as<T>() + i * op.width * channels;
        const int64_t left = op.lefts[n], inside = std::min<int64_t>(op.width, turned_w - left);
        if (right == channels) {
          decode(y, row + left * right, inside * channels);
        } else {
          decode(values, y, row + left * right, inside, right, channels);
        }
        for (int64_t x = inside; x < op.width; ++x) {
          decode(values, y + x * channels, row + mirror(left + x, turned_w) * right, 1, 0, channels);
        }
      }
    });
  });
}

}  // namespace glnet::cpu
