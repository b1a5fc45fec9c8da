// When the tap form of a convolution is the cheaper one.
#pragma once

#include "ops/aggregate_conv.h"

namespace glnet::cpu {

constexpr int64_t kProductBudget = int64_t{32} << 20;  ///< bytes of taps' products; 16 and 64 MiB were slower
constexpr int64_t kLanes = 16;                         ///< of float32 in the widest vector

/// What decides it of a source: pixels of its own grid and of the target's.
struct TapCost {
  int64_t own, target, channels;
  int64_t width;  ///< of the target
  bool resized;
};

/// Of a source as a whole.
template <class Source>
TapCost tap_cost(const GridView<Source>& s) {
  return {s.base_height() * s.base_width(), s.height() * s.width(), s.channels(), s.width(),
          !s.sizes.empty()};
}

/// Whether to apply the taps of `weight` to the source on its own grid and gather the products, rather than
/// to convolve on the target grid.
bool taps_pay(const TapCost& source, const View& weight);

/// How a source is convolved: `plain` on the target grid; by `taps`; or on the target grid by each of the
/// kernel's columns, to sum the results along each row.
enum class Way { plain, taps, columns };
const char* name_of(Way way);
Way best_way(const TapCost& source, const View& weight);

}  // namespace glnet::cpu
