// When the tap form of a convolution is the cheaper one.
#pragma once

#include "ops/aggregate_conv.h"

namespace glnet::cpu {

constexpr int64_t kProductBudget = int64_t{32} << 20;  ///< bytes of taps' products; 16 and 64 MiB were slower
constexpr int64_t kLanes = 16;                         ///< of float32 in the widest vector

/// Whether to apply the taps of `weight` to the source on its own grid and gather the products, rather than
/// to convolve on the target grid.
bool taps_pay(const MapGeometry& source, const View& weight);

}  // namespace glnet::cpu
