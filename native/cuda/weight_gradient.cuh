// The product that gradients of weights are, which conv2d_backward_weights.cu computes.
#pragma once

#include "cuda/gemm.cuh"

namespace glnet::cuda {

/// Gradients to be added to, in weights [K, C, area], of which they are a range of channels.
struct WeightSlice {
  float* w;  ///< of the first output and channel
  int outputs, channels, area;
  int output_stride;  ///< from one output to the next: C area
};

/// Bytes of workspace for sums of `rows` x `columns` over `pixels`.
int64_t weight_gradient_bytes(int64_t rows, int64_t columns, int64_t pixels);

/// Adds to the weights, for each pixel of dy [maps.rows(), K], the products of its outputs with what the taps
/// of the maps meet; or, if the maps have one tap and the weights more, of dy [maps.rows(), area, K] with the
/// maps' pixel. Products of `rows` taps and channels of the maps with `columns` of dy.
void weight_gradient(const Context& context, const Maps<float>& maps, const float* dy,
                     const WeightSlice& weights, void* workspace);

}  // namespace glnet::cuda
