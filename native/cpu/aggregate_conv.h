// When the tap form of a convolution is the cheaper one.
#pragma once

#include "ops/aggregate_conv.h"

namespace glnet::cpu {

/// Whether to apply the taps of `weight` to the source on its own grid and gather the products, rather than
/// to convolve on the target grid.
bool taps_pay(const GridSource& source, const View& weight);

}  // namespace glnet::cpu
