// What the losses over pixels share: see ops/pixel_loss.h.
#pragma once

#include <atomic>

#include "core/backend.h"
#include "cpu/exp.h"
#include "cpu/parallel.h"

namespace glnet::cpu {

constexpr int64_t kLanes = 32;  // pixels side by side, to fill vectors
constexpr int64_t kMostClasses = 256;

/// The labels of the pixels of the logits.
struct Labels {
  const uint8_t* values;
  int64_t down, across;  ///< labels to a pixel
  int64_t length;        ///< of a row of labels
  int64_t classes;
  int ignored;

  explicit Labels(const PixelLoss& op)
      : values(op.labels.as<const uint8_t>()),
        down(op.down()),
        across(op.across()),
        length(op.labels.dim(2)),
        classes(op.classes()),
        ignored(op.ignored) {}

  /// The first pixel's of a row of logits; the next one's is `across` on.
  const uint8_t* row(int64_t row) const { return values + (row * down + down / 2) * length + across / 2; }
  /// The label if it counts, else -1.
  int32_t label(uint8_t value) const { return value < classes && value != ignored ? value : -1; }
};

/// The number of valid pixels.
inline int64_t count_valid(const PixelLoss& op, int threads) {
  const Labels labels(op);
  std::atomic<int64_t> valid = 0;
  parallel_ranges(threads, op.logits.dim(0) * op.logits.dim(1), [&](int64_t begin, int64_t end) {
    int64_t count = 0;
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t i = 0; i < op.logits.dim(2); ++i)
        count += labels.label(labels.row(row)[i * labels.across]) >= 0;
    }
    valid += count;
  });
  return valid;
}

/// Up to kLanes neighbouring pixels.
struct Lanes {
  int32_t label[kLanes];                ///< -1 where it does not count
  float values[kMostClasses * kLanes];  ///< [classes, kLanes]: exp(logit - largest)
  float own[kLanes];                    ///< the label's
  float others[kLanes];                 ///< the sum of the rest, so that nothing cancels in 1 - p
  float all[kLanes];  ///< the sum, the same whatever the label: equal logits give equal probabilities

  /// Of `some` pixels; the others' labels do not count. Logits whose label does not count are taken as 0.
  template <class T>
  [[gnu::always_inline]] inline void read(const T* x, const uint8_t* labels, int64_t some,
                                          const Labels& settings) {
    const int64_t classes = settings.classes;
    float largest[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      label[i] = i < some ? settings.label(labels[i * settings.across]) : -1;
      own[i] = others[i] = all[i] = 0;
    }
    if (some < kLanes) std::fill_n(values, classes * kLanes, 0.0f);
    for (int64_t i = 0; i < some; ++i) {
      for (int64_t k = 0; k < classes; ++k) {
        values[k * kLanes + i] = label[i] < 0 ? 0.0f : static_cast<float>(x[i * classes + k]);
      }
    }
    for (int64_t i = 0; i < kLanes; ++i) largest[i] = values[i];
    for (int64_t k = 1; k < classes; ++k) {
      for (int64_t i = 0; i < kLanes; ++i) largest[i] = std::max(largest[i], values[k * kLanes + i]);
    }
    for (int32_t k = 0; k < classes; ++k) {
      for (int64_t i = 0; i < kLanes; ++i) {
        const float e = exp_of_negative(values[k * kLanes + i] - largest[i]);
        values[k * kLanes + i] = e;
        all[i] += e;
        const auto mine = static_cast<float>(label[i] == k);
        own[i] += mine * e;
        others[i] += (1 - mine) * e;
      }
    }
  }
};

/// In place of a pixel's softmax s: the gradient with respect to its logits, from that with respect to its
/// probabilities, `slope(k)`. The mean of the slopes is one by the sum of s as it was rounded, and in double:
/// little is left of slopes that are almost the mean.
template <class Slope>
[[gnu::always_inline]] inline void softmax_backward(float* s, int64_t classes, Slope&& slope) {
  double sum = 0, weighted = 0;
  for (int64_t k = 0; k < classes; ++k) {
    sum += s[k];
    weighted += s[k] * slope(k);
  }
  const double mean = weighted / sum;
  for (int64_t k = 0; k < classes; ++k) s[k] *= static_cast<float>(slope(k) - mean);
}

}  // namespace glnet::cpu
