#include "reference/kernels.h"

namespace glnet::reference {
namespace {

/// Walks to and fro over 0 ... length - 1, as light between two mirrors.
int64_t mirror(int64_t i, int64_t length) {
  while (i >= length) i = length == 1 ? 0 : i < 2 * length - 1 ? 2 * (length - 1) - i : i - 2 * (length - 1);
  return i;
}

}  // namespace

void decode_patches(const DecodePatches& op, const Context&) {
  const int64_t h = op.x.dim(0), w = op.x.dim(1), channels = op.x.dim(2);
  const int64_t turned_h = turn_swaps(op.turn) ? w : h, turned_w = turn_swaps(op.turn) ? h : w;
  for (size_t n = 0; n < op.tops.size(); ++n) {
    for (int64_t row = 0; row < op.height; ++row) {
      for (int64_t column = 0; column < op.width; ++column) {
        const auto [y, x] = turn_source(op.turn, h, w, mirror(op.tops[n] + row, turned_h),
                                        mirror(op.lefts[n] + column, turned_w));
        for (int64_t c = 0; c < channels; ++c) {
          store(op.y, at(op.y, static_cast<int64_t>(n), row, column, c),
                load(op.x, (y * w + x) * channels + c) / 255);
        }
      }
    }
  }
}

}  // namespace glnet::reference
