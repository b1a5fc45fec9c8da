// What the losses over pixels share: see ops/pixel_loss.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "reference/kernels.h"

namespace glnet::reference {

/// The label of each pixel of the logits, -1 where it does not count.
inline std::vector<int64_t> labels_of(const PixelLoss& op) {
  const int64_t height = op.logits.dim(1), width = op.logits.dim(2);
  std::vector<int64_t> labels;
  for (int64_t n = 0; n < op.logits.dim(0); ++n) {
    for (int64_t row = 0; row < height; ++row) {
      for (int64_t column = 0; column < width; ++column) {
        const int64_t y = (2 * row + 1) * op.labels.dim(1) / (2 * height),
                      x = (2 * column + 1) * op.labels.dim(2) / (2 * width);
        const auto label =
            static_cast<int64_t>(load(op.labels, (n * op.labels.dim(1) + y) * op.labels.dim(2) + x));
        labels.push_back(label < op.classes() && label != op.ignored ? label : -1);
      }
    }
  }
  return labels;
}

/// The softmax of a pixel's logits.
inline std::vector<double> softmax_of(const PixelLoss& op, int64_t pixel) {
  std::vector<double> softmax;
  double largest = -std::numeric_limits<double>::infinity(), sum = 0;
  const int64_t classes = op.classes();
  for (int64_t k = 0; k < classes; ++k) largest = std::max(largest, load(op.logits, pixel * classes + k));
  for (int64_t k = 0; k < classes; ++k) {
    softmax.push_back(std::exp(load(op.logits, pixel * classes + k) - largest));
    sum += softmax.back();
  }
  for (double& s : softmax) s /= sum;
  return softmax;
}

/// Stores a pixel's gradient with respect to its logits, from that with respect to its probabilities.
inline void store_gradient(const PixelLoss& op, int64_t pixel, const std::vector<double>& softmax,
                           const std::vector<double>& slopes) {
  double mean = 0;
  for (size_t k = 0; k < softmax.size(); ++k) mean += softmax[k] * slopes[k];
  for (size_t k = 0; k < softmax.size(); ++k) {
    store(op.gradient, pixel * op.classes() + static_cast<int64_t>(k), softmax[k] * (slopes[k] - mean));
  }
}

}  // namespace glnet::reference
