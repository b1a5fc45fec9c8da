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
  float largest = -INFINITY, others = 0;
  for (int k = lane; k < classes; k += kLanes) largest = Larger{}(largest, static_cast<float>(logits[k]));
  largest = reduce(largest, Larger{});
  for (int k = lane; k < classes; k += kLanes) {
    if (k != label) others += expf(static_cast<float>(logits[k]) - largest);
  }
  others = reduce(others, Plus{});
  const float own = expf(static_cast<float>(logits[label]) - largest), inverse = 1 / (own + others);
  return {largest, inverse, own * inverse, others * inverse};
}

/// In place of a pixel's softmax s: the gradient with respect to its logits, from that with respect to its
/// probabilities, `slope(k)`. Slopes are taken from the label's, so that nothing cancels where the label is
/// almost certain.
template <class Slope>
__device__ __forceinline__ void softmax_backward(float* s, int classes, int label, Slope slope) {
  const float own = slope(label);
  float mean = 0;
  for (int k = 0; k < classes; ++k) {
    if (k != label) mean += s[k] * (slope(k) - own);
  }
  for (int k = 0; k < classes; ++k) s[k] *= k == label ? -mean : slope(k) - own - mean;
}

}  // namespace glnet::cuda
