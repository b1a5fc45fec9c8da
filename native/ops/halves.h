// Positions along an axis, the middle of which may be left out.
#pragma once

#include <cstdint>

namespace glnet {

/// The i-th of `count` positions from `first` on, between whose halves `skip` are left out.
constexpr int64_t position_of(int64_t i, int64_t first, int64_t count, int64_t skip) {
  return first + i + (i < count / 2 ? 0 : skip);
}

/// Whether so many positions come in halves, where something between these is left out.
constexpr bool has_halves(int64_t count, int64_t skip) {
  return skip == 0 || (skip > 0 && count % 2 == 0);
}

}  // namespace glnet
