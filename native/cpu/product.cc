#include "cpu/product.h"

#include <cstring>
#include <vector>

#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

constexpr int64_t kRows = 4, kColumns = 32;  // of c in registers

typedef double Vector __attribute__((vector_size(64)));
constexpr int64_t kVectors = kColumns / 8;

/// `rows` rows of c, at most kRows, from the first column of a block of kColumns on. b's columns of the block
/// lie together, [inner, kColumns].
GLNET_MULTIVERSION void multiply_block(int64_t rows, int64_t inner, const double* a, const double* b,
                                       double sums[kRows][kColumns]) {
  Vector sum[kRows][kVectors] = {};
  for (int64_t i = 0; i < inner; ++i) {
    Vector from[kVectors];
    std::memcpy(from, b + i * kColumns, sizeof from);
    for (int64_t r = 0; r < kRows; ++r) {
      const double factor = r < rows ? a[r * inner + i] : 0;
      for (int64_t v = 0; v < kVectors; ++v) sum[r][v] += factor * from[v];
    }
  }
  std::memcpy(sums, sum, sizeof sum);
}

}  // namespace

void multiply_in_double(int threads, int64_t rows, int64_t inner, int64_t columns, const double* a,
                        const float* b, double* c) {
  parallel_for(threads, (columns + kColumns - 1) / kColumns, [&](int64_t block) {
    const int64_t first = block * kColumns, count = std::min(kColumns, columns - first);
    std::vector<double> part(static_cast<size_t>(inner * kColumns));
    for (int64_t i = 0; i < inner; ++i) {
      for (int64_t j = 0; j < count; ++j)
        part[static_cast<size_t>(i * kColumns + j)] = b[i * columns + first + j];
    }
    for (int64_t row = 0; row < rows; row += kRows) {
      const int64_t n = std::min(kRows, rows - row);
      double sums[kRows][kColumns];
      multiply_block(n, inner, a + row * inner, part.data(), sums);
      for (int64_t r = 0; r < n; ++r) {
        std::memcpy(c + (row + r) * columns + first, sums[r], static_cast<size_t>(count) * sizeof(double));
      }
    }
  });
}

}  // namespace glnet::cpu
