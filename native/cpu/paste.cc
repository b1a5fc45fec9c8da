#include <cstring>

#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace glnet::cpu {
namespace {

/// Calls `run(from, to, elements)` for runs of elements that lie together in x and in y.
template <class Run>
void for_runs(const Paste& op, int threads, Run run) {
  const int64_t height = op.height(), width = op.width(), channels = op.x.dim(3);
  parallel_ranges(threads, op.x.dim(0) * height, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t n = i / height, row = i % height;
      const int64_t y_row = n * op.y.dim(1) + position_of(row, op.top, height, op.skip_rows);
      const auto to = [&](int64_t column) {
        return (y_row * op.y.dim(2) + position_of(column, op.left, width, op.skip_columns)) * channels;
      };
      if (!op.transposed) {
        const int64_t half = width / 2, rest = width - half;
        run(i * width * channels, to(0), half * channels);
        run((i * width + half) * channels, to(half), rest * channels);
        continue;
      }
      for (int64_t column = 0; column < width; ++column) {
        run(((n * width + column) * height + row) * channels, to(column), channels);
      }
    }
  });
}

}  // namespace

void paste(const Paste& op, const Context& context) {
  if (op.add) {
    with_type(op.kName, op.y.dtype, [&](auto t) {
      using T = decltype(t);
      for_runs(op, context.threads, [&](int64_t from, int64_t to, int64_t n) {
        const T* x = op.x.as<const T>() + from;
        T* y = op.y.as<T>() + to;
        for (int64_t i = 0; i < n; ++i) y[i] = T(static_cast<float>(y[i]) + static_cast<float>(x[i]));
      });
    });
    return;
  }
  const size_t size = size_of(op.y.dtype);
  for_runs(op, context.threads, [&](int64_t from, int64_t to, int64_t n) {
    std::memcpy(op.y.as<std::byte>() + static_cast<size_t>(to) * size,
                op.x.as<const std::byte>() + static_cast<size_t>(from) * size, static_cast<size_t>(n) * size);
  });
}

}  // namespace glnet::cpu
