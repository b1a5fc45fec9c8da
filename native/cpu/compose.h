// Kernels in double precision, for weights that are composed before they are used.
#pragma once

#include <cstddef>
#include <cstdint>

namespace glnet::cpu {

/// A kernel over the outputs of a convolution, as one over its inputs: to [K, h + kh - 1, w + kw - 1, C] +=
/// the transposed convolution of from [K, h, w, channels], of which the first M count, with weight
/// [M, C, plane].
struct ComposeKernel {
  int64_t outputs, height, width, channels;  ///< K, h, w
  const double* from;
  int64_t middle, inputs, plane;  ///< M, C
  const float* weight;
  int64_t kernel_height, kernel_width;
  const int32_t* taps;  ///< [kh, kw]: places in a plane of the weight
  double* to;

  /// Whether arrays of these lengths are what is described.
  bool fits(size_t from_length, size_t weight_length, size_t taps_length, size_t to_length) const;
  void run(int threads) const;
};

}  // namespace glnet::cpu
