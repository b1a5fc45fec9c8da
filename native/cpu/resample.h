// Rows of bilinearly resized maps: the inner loop of resize, crop_resize and merge_patches.
#pragma once

#include "core/dtype.h"
#include "cpu/sampling.h"

namespace glnet::cpu {

/// Sources of one output row: `x` is a map (or the first pixel of a crop of one) whose rows are `stride`
/// elements apart; `rows` to before `rows_end` are the rows that are mixed.
template <class T>
struct RowSource {
  const T* x;
  int64_t stride;
  const AxisSampling::Entry* rows;
  const AxisSampling::Entry* rows_end;
};

/// y[column, c] = the mix of x's pixels at (row, column); of none, zero. Pixels of y are `pixel` elements
/// apart, or, if that is 0, `channels`.
void resample_row(float* y, const RowSource<float>& source, const AxisSampling& columns, int64_t channels,
                  int64_t pixel = 0);
void resample_row(bfloat16* y, const RowSource<bfloat16>& source, const AxisSampling& columns,
                  int64_t channels, int64_t pixel = 0);
/// The same, added to y.
void add_resampled_row(float* y, const RowSource<float>& source, const AxisSampling& columns,
                       int64_t channels);
void add_resampled_row(float* y, const RowSource<bfloat16>& source, const AxisSampling& columns,
                       int64_t channels);

}  // namespace glnet::cpu
