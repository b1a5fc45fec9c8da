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

GLNET_MULTIVERSION void block(const float* x, int64_t begin, int64_t end, int64_t pixels, int64_t channels,
                              float* y) {
  for (int64_t first = begin; first < end; first += kPixels) {
    const int64_t last = first + kPixels < end ? first + kPixels : end;
    for (int64_t c = 0; c < channels; c += kBlock) {
      for (int64_t i = first; i < last; ++i) {
        std::memcpy(y + c * pixels + i * kBlock, x + i * channels + c, 4 * kBlock);
      }
    }
  }
}

GLNET_MULTIVERSION void unblock(const float* x, int64_t begin, int64_t end, int64_t pixels, int64_t channels,
                                const float* addend, bool relu, float* y) {
  for (int64_t first = begin; first < end; first += kPixels) {
    const int64_t last = first + kPixels < end ? first + kPixels : end;
    for (int64_t c = 0; c < channels; c += kBlock) {
      for (int64_t i = first; i < last; ++i) {
        Vector v;
        load(v, x + c * pixels + i * kBlock);
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

/// Calls body(map, first pixel, last pixel) for shares of all maps.
template <class Body>
void for_shares(int threads, int64_t maps, int64_t pixels, Body&& body) {
  parallel_ranges(threads, maps * pixels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end;) {
      const int64_t map = i / pixels, last = std::min(end, (map + 1) * pixels);
      body(map, i - map * pixels, last - map * pixels);
      i = last;
    }
  });
}

}  // namespace

void block_channels(int threads, const float* x, int64_t maps, int64_t pixels, int64_t channels, float* y) {
  for_shares(threads, maps, pixels, [&](int64_t map, int64_t begin, int64_t end) {
    const int64_t offset = map * pixels * channels;
    block(x + offset, begin, end, pixels, channels, y + offset);
  });
}

void unblock_channels(int threads, const float* x, int64_t maps, int64_t pixels, int64_t channels,
                      const float* addend, bool relu, float* y) {
  for_shares(threads, maps, pixels, [&](int64_t map, int64_t begin, int64_t end) {
    const int64_t offset = map * pixels * channels;
    unblock(x + offset, begin, end, pixels, channels, addend ? addend + offset : nullptr, relu, y + offset);
  });
}

}  // namespace glnet::cpu
