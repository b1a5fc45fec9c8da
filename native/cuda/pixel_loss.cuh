// What the losses over pixels share: see ops/pixel_loss.h.
#pragma once

#include "cuda/reduce.cuh"

namespace glnet::cuda {

/// With so few classes a thread takes a pixel, else a warp.
constexpr int64_t kFewClasses = 32;

/// The labels of the pixels of the logits.
struct Labels {
  const uint8_t* values;
  int width;         ///< of the logits
  int down, across;  ///< labels to a pixel
  int classes, ignored;

  explicit Labels(const PixelLoss& op)
      : values(op.labels.as<const uint8_t>()),
        width(static_cast<int>(op.logits.dim(2))),
        down(static_cast<int>(op.down())),
        across(static_cast<int>(op.across())),
        classes(static_cast<int>(op.classes())),
        ignored(op.ignored) {}

  /// The label of a pixel if it counts, else -1.
  __device__ int at(int64_t pixel) const {
    const int64_t row = pixel / width * down + down / 2, column = pixel % width;
    const int label = values[(row * width + column) * across + across / 2];
    return label < classes && label != ignored ? label : -1;
  }
};

/// A pixel's softmax. 1 - p is summed from the other classes, so that nothing cancels.
struct PixelSoftmax {
  float largest, inverse;
  float p, q;  ///< of the label, and of the others together

  __device__ float operator()(float logit) const { return expf(logit - largest) * inverse; }
};

/// By kLanes threads, 1 or a whole warp, of which this is number `lane`.
template <int kLanes, class T>
__device__ __forceinline__ PixelSoftmax softmax_of(const T* logits, int classes, int label, int lane) {
  const auto reduce = [](float value, auto f) {
    if constexpr (kLanes == 1) {
      return value;
    } else {
      return warp_reduce(value, f);
    }
  };
  // The sum of all does not depend on the label: equal logits give equal probabilities.
  float largest = -INFINITY, others = 0, all = 0;
  for (int k = lane; k < classes; k += kLanes) largest = Larger{}(largest, static_cast<float>(logits[k]));
  largest = reduce(largest, Larger{});
  for (int k = lane; k < classes; k += kLanes) {
    const float e = expf(static_cast<float>(logits[k]) - largest);
    all += e;
    if (k != label) others += e;
  }
  others = reduce(others, Plus{});
  all = reduce(all, Plus{});
  const float own = expf(static_cast<float>(logits[label]) - largest), inverse = 1 / all;
  return {largest, inverse, own * inverse, others * inverse};
}

/// In place of a pixel's softmax s: the gradient with respect to its logits, from that with respect to its
/// probabilities, `slope(k)`. The mean of the slopes is one by the sum of s as it was rounded, and in double:
/// little is left of slopes that are almost the mean.
template <class Slope>
__device__ __forceinline__ void softmax_backward(float* s, int classes, Slope slope) {
  double sum = 0, weighted = 0;
  for (int k = 0; k < classes; ++k) {
    sum += s[k];
    weighted += s[k] * slope(k);
  }
  const double mean = weighted / sum;
  for (int k = 0; k < classes; ++k) s[k] *= static_cast<float>(slope(k) - mean);
}

}  // namespace glnet::cuda
