// The eight flips and quarter turns of an image, numbered 0 to 7: `turn & 4` mirrors left and right, then the
// image is turned anticlockwise by `turn & 3` quarters.
#pragma once

#include <cstdint>
#include <utility>

#include "core/error.h"

namespace glnet {

inline void check_turn(const char* op, int turn) {
  check(turn >= 0 && turn < 8, op, ": turn ", turn, " must be from 0 to 7");
}

/// Whether a turned image has height and width exchanged.
constexpr bool turn_swaps(int turn) {
  return turn & 1;
}

/// The pixel (row, column) of a `height` x `width` image that lies at (y, x) of its turned version.
constexpr std::pair<int64_t, int64_t> turn_source(int turn, int64_t height, int64_t width, int64_t y,
                                                  int64_t x) {
  int64_t row = y, column = x;
  switch (turn & 3) {
    case 1:
      row = x, column = width - 1 - y;
      break;
    case 2:
      row = height - 1 - y, column = width - 1 - x;
      break;
    case 3:
      row = height - 1 - x, column = y;
      break;
  }
  return {row, turn & 4 ? width - 1 - column : column};
}

/// The place (y, x) in the turned version of the pixel (row, column) of a `height` x `width` image.
constexpr std::pair<int64_t, int64_t> turn_target(int turn, int64_t height, int64_t width, int64_t row,
                                                  int64_t column) {
  if (turn & 4) column = width - 1 - column;
  switch (turn & 3) {
    case 1:
      return {width - 1 - column, row};
    case 2:
      return {height - 1 - row, width - 1 - column};
    case 3:
      return {column, height - 1 - row};
  }
  return {row, column};
}

}  // namespace glnet
