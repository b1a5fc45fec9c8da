#include "cpu/blocks.h"

#include <cstring>

#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

constexpr int64_t kBlock = 16;
/// Pixels at a time: what they hold stays in the first-level cache while all blocks are written.
constexpr int64_t kPixels = 16;

typedef float Vector __attribute__((vector_size(4 * kBlock)));

[[gnu::always_inline]] inline void load(Vector& v, const float* from) {
  std::memcpy(&v, from, sizeof v);
}

/// A row of `width` pixels; blocks of y are `stride` floats apart.
GLNET_MULTIVERSION void block(const float* x, int64_t width, int64_t channels, int64_t stride, float* y) {
  for (int64_t first = 0; first < width; first += kPixels) {
    const int64_t last = first + kPixels < width ? first + kPixels : width;
    for (int64_t c = 0; c < channels; c += kBlock) {
      float* to = y + c / kBlock * stride;
      for (int64_t i = first; i < last; ++i) {
        std::memcpy(to + i * kBlock, x + i * channels + c, 4 * kBlock);
      }
    }
  }
}

GLNET_MULTIVERSION void unblock(const float* x, int64_t width, int64_t channels, int64_t stride,
                                const float* addend, bool relu, float* y) {
  for (int64_t first = 0; first < width; first += kPixels) {
    const int64_t last = first + kPixels < width ? first + kPixels : width;
    for (int64_t c = 0; c < channels; c += kBlock) {
      const float* from = x + c / kBlock * stride;
      for (int64_t i = first; i < last; ++i) {
        Vector v;
        load(v, from + i * kBlock);
        if (addend) {
          Vector a;
          load(a, addend + i * channels + c);
          v += a;
        }
        if (relu) v = v < 0 ? Vector{} : v;
        std::memcpy(y + i * channels + c, &v, sizeof v);
      }
    }
  }
}

/// Calls body(offset of the row in blocks, row of the maps or -1, offset of that row) for all rows, shared
/// out.
template <class Body>
void for_rows(int threads, const BlockedRows& b, Body&& body) {
  parallel_ranges(threads, b.maps * b.rows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t map = i / b.rows, row = i % b.rows, at = b.first + row;
      const int64_t blocked = (map * b.channels * b.rows + row * kBlock) * b.width;
      body(blocked, at >= 0 && at < b.height, (map * b.height + at) * b.width * b.channels);
    }
  });
}

}  // namespace

void block_channels(int threads, const float* x, const BlockedRows& b, float* y) {
  const int64_t stride = b.rows * b.width * kBlock;
  for_rows(threads, b, [&](int64_t blocked, bool inside, int64_t dense) {
    if (inside) return block(x + dense, b.width, b.channels, stride, y + blocked);
    for (int64_t c = 0; c < b.channels; c += kBlock) {
      std::memset(y + blocked + c / kBlock * stride, 0, static_cast<size_t>(b.width) * 4 * kBlock);
    }
  });
}

void unblock_channels(int threads, const float* x, const BlockedRows& b, const float* addend, bool relu,
                      float* y) {
  const int64_t stride = b.rows * b.width * kBlock;
  for_rows(threads, b, [&](int64_t blocked, bool inside, int64_t dense) {
    if (inside)
      unblock(x + blocked, b.width, b.channels, stride, addend ? addend + dense : nullptr, relu, y + dense);
  });
}

}  // namespace glnet::cpu
