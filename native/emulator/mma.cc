#include "emulator/mma.h"

namespace glnet::emulator::detail {

/// The product of what the lanes of a warp brought.
void multiply(const uint64_t* lanes) {
  constexpr int n = kMatrixSide;
  const auto operands = [&](int lane) { return reinterpret_cast<const Operands*>(lanes[lane]); };
  // Lines of the right matrix are its columns.
  float left[n][n], right[n][n], sums[n][n];
  for (int lane = 0; lane < warpSize; ++lane) {
    const Operands& o = *operands(lane);
    const int line = lane / 2, first = lane % 2 * kLaneElements;
    for (int i = 0; i < kLaneElements; ++i) {
      left[line][first + i] = o.a->share[i];
      right[line][first + i] = o.b->share[i];
      sums[line][first + i] = o.c->share[i];
    }
  }
  for (int k = 0; k < n; ++k) {
    for (int row = 0; row < n; ++row) {
      for (int column = 0; column < n; ++column) sums[row][column] += left[row][k] * right[column][k];
    }
  }
  for (int lane = 0; lane < warpSize; ++lane) {
    for (int i = 0; i < kLaneElements; ++i) {
      operands(lane)->d->share[i] = sums[lane / 2][lane % 2 * kLaneElements + i];
    }
  }
}

}  // namespace glnet::emulator::detail
