// Weighted sums of rows, as aggregate_conv gathers them.
#pragma once

#include <array>
#include <cstdint>

namespace glnet::cpu {

/// base[offset ...] times weight.
struct Term {
  int32_t offset;
  float weight;
};

/// Up to four rows that a sum starts with; nullptr for none.
using Initial = std::array<const float*, 4>;

}  // namespace glnet::cpu
