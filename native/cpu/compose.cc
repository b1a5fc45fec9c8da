#include "cpu/compose.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

constexpr int64_t kRows = 8, kColumns = 16;  // of a product in registers
constexpr int64_t kMiddle = 128;             // of the weight at a time: in the cache

typedef double Vector __attribute__((vector_size(64)));
constexpr int64_t kVectors = kColumns / 8;

/// `rows` rows of a product, at most kRows: a [rows, inner], its rows `stride` apart, times b [inner,
/// kColumns].
GLNET_MULTIVERSION void multiply_block(int64_t rows, int64_t inner, const double* a, int64_t stride,
                                       const double* b, double sums[kRows][kColumns]) {
  Vector sum[kRows][kVectors] = {};
  for (int64_t i = 0; i < inner; ++i) {
    Vector from[kVectors];
    std::memcpy(from, b + i * kColumns, sizeof from);
    for (int64_t r = 0; r < kRows; ++r) {
      const double factor = r < rows ? a[r * stride + i] : 0;
      for (int64_t v = 0; v < kVectors; ++v) sum[r][v] += factor * from[v];
    }
  }
  std::memcpy(sums, sum, sizeof sum);
}

}  // namespace

bool ComposeKernel::fits(size_t from_length, size_t weight_length, size_t taps_length,
                         size_t to_length) const {
  const auto count = [](auto... sizes) { return static_cast<size_t>((sizes * ...)); };
  const int64_t tap_count = kernel_height * kernel_width;
  if (std::min({outputs, height, width, middle, inputs, tap_count}) < 1 || channels < middle) return false;
  return from_length == count(outputs, height, width, channels) &&
         weight_length == count(middle, inputs, plane) && taps_length == count(tap_count) &&
         std::all_of(taps, taps + tap_count, [&](int32_t tap) { return tap >= 0 && tap < plane; }) &&
         to_length >= count(outputs, height + kernel_height - 1, width + kernel_width - 1, inputs);
}

void ComposeKernel::run(int threads) const {
  const int64_t tap_count = kernel_height * kernel_width;
  const int64_t positions = outputs * height * width;
  const int64_t to_height = height + kernel_height - 1, to_width = width + kernel_width - 1;
  parallel_for(threads, (inputs + kColumns - 1) / kColumns, [&](int64_t block) {
    const int64_t first = block * kColumns, count = std::min(kColumns, inputs - first);
    // [taps, kMiddle, kColumns]
    std::vector<double> part(static_cast<size_t>(tap_count * kMiddle * kColumns));
    for (int64_t m = 0; m < middle; m += kMiddle) {
      const int64_t inner = std::min(kMiddle, middle - m);
      for (int64_t i = 0; i < inner; ++i) {
        const float* source = weight + ((m + i) * inputs + first) * plane;
        for (int64_t tap = 0; tap < tap_count; ++tap) {
          double* packed = part.data() + (tap * kMiddle + i) * kColumns;
          for (int64_t c = 0; c < count; ++c) packed[c] = source[c * plane + taps[tap]];
        }
      }
      for (int64_t position = 0; position < positions; position += kRows) {
        const int64_t rows = std::min(kRows, positions - position);
        for (int64_t tap = 0; tap < tap_count; ++tap) {
          double sums[kRows][kColumns];
          multiply_block(rows, inner, from + position * channels + m, channels,
                         part.data() + tap * kMiddle * kColumns, sums);
          for (int64_t r = 0; r < rows; ++r) {
            const int64_t line = (position + r) / width, x = (position + r) % width + tap % kernel_width;
            const int64_t k = line / height, y = line % height + tap / kernel_width;
            double* sum = to + ((k * to_height + y) * to_width + x) * inputs + first;
            for (int64_t c = 0; c < count; ++c) sum[c] += sums[r][c];
          }
        }
      }
    }
  });
}

}  // namespace glnet::cpu
