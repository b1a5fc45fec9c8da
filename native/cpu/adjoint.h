// Adjoints of what aggregate_conv and crop_resize gather: from a gradient on the target grid to the source's
// own grid, separably, first down the columns and then along the row.
#pragma once

#include <vector>

#include "core/backend.h"
#include "cpu/aggregate_conv.h"
#include "cpu/sampling.h"

namespace glnet::cpu {

/// What each position of an axis of a source gave: to which target positions, by each of the kernel's taps.
struct TapTerms {
  int64_t taps;
  std::vector<int32_t> starts{0};
  std::vector<int32_t> targets;  ///< ascending
  std::vector<float> weights;    ///< [targets, taps]

  /// Of an axis that `sampling` maps from `length` positions. With `copies` there are several target grids
  /// behind each other, which all read the same source.
  TapTerms(const AxisSampling& sampling, int64_t length, int64_t taps, int64_t copies = 1);

  int64_t begin(int64_t i) const { return starts[static_cast<size_t>(i)]; }
  int64_t count(int64_t i) const { return begin(i + 1) - begin(i); }
  /// Whether position i gave its value to one position, and nothing else.
  bool copies_one(int64_t i) const {
    return taps == 1 && count(i) == 1 && weights[static_cast<size_t>(begin(i))] == 1;
  }
};

/// G [height, width, taps, taps, channels] of a source's map on its own grid: the adjoint of the gather of
/// aggregate_conv's products, or with one tap of a crop's resizes.
class TapAdjoint {
 public:
  /// With `copies`, of a source that so many patches share: their gradients are summed.
  TapAdjoint(const MapGeometry& source, int64_t taps, int64_t copies);

  /// G of `maps` maps behind each other, from dy [maps, target height, target width, channels], of which the
  /// first `n` channels are read; those of G after n are zero. `bands` has band_floats(slice) for each
  /// thread.
  void gather(int threads, const float* dy, int64_t maps, int64_t channels, int64_t n, int64_t slice,
              float* bands, float* g) const;
  /// One row of the G of one map; the same otherwise.
  void row(int64_t row, const float* dy, int64_t channels, int64_t n, int64_t slice, float* band,
           float* g) const;
  /// Floats that a thread needs.
  int64_t band_floats(int64_t slice) const { return (rows_.taps * target_width_ * slice + 15) / 16 * 16; }

 private:
  int64_t height_, width_, target_height_, target_width_;
  TapTerms rows_, columns_;
};

/// How the gradients of a source's taps are done: all outputs of some maps at once, or some outputs of one
/// map, such that G fits kProductBudget.
struct TapSlices {
  TapSlices(const MapGeometry& source, int64_t outputs, int64_t kernel);

  int64_t slice, slices, group;
};

/// Scratch memory of crop_resize_backward.
size_t crop_resize_backward_bytes(const MapGeometry& source, int threads);

}  // namespace glnet::cpu
