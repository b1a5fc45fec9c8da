#include <atomic>
#include <cmath>

#include "cpu/exp.h"
#include "cpu/kernels.h"
#include "cpu/log.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

constexpr int64_t kLanes = 32;  // pixels side by side, to fill vectors
constexpr int64_t kMostClasses = 256;

struct Settings {
  int64_t classes;
  int ignored;
  float gamma;
  const float* class_weights;  ///< may be null
  float factor;                ///< scale / valid pixels

  /// The label if it counts, else -1.
  int32_t label(uint8_t value) const { return value < classes && value != ignored ? value : -1; }
};

/// Pixels of one row: the gradient. `step` labels to a pixel. Returns the sum of the losses.
template <class T>
GLNET_MULTIVERSION double focal_row(T* gradient, const T* x, const uint8_t* labels, int64_t step,
                                    int64_t pixels, const Settings& settings) {
  constexpr float kLeast = FocalLoss::kLeast;
  const int64_t classes = settings.classes;
  float values[kMostClasses * kLanes];  // [classes, kLanes]: logits, then exponentials
  double loss = 0;
  for (int64_t first = 0; first < pixels; first += kLanes) {
    const int64_t some = std::min(kLanes, pixels - first);
    int32_t label[kLanes];
    float weight[kLanes], largest[kLanes], own[kLanes] = {}, others[kLanes] = {};
    float term[kLanes], pull[kLanes], push[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      label[i] = i < some ? settings.label(labels[(first + i) * step]) : -1;
      weight[i] = settings.class_weights && label[i] >= 0 ? settings.class_weights[label[i]] : 1.0f;
    }
    if (some < kLanes) std::fill_n(values, classes * kLanes, 0.0f);
    for (int64_t i = 0; i < some; ++i) {
      for (int64_t k = 0; k < classes; ++k) values[k * kLanes + i] = static_cast<float>(x[i * classes + k]);
    }
    for (int64_t i = 0; i < kLanes; ++i) largest[i] = values[i];
    for (int64_t k = 1; k < classes; ++k) {
      for (int64_t i = 0; i < kLanes; ++i) largest[i] = std::max(largest[i], values[k * kLanes + i]);
    }
    for (int32_t k = 0; k < classes; ++k) {
      for (int64_t i = 0; i < kLanes; ++i) {
        const float e = exp_of_negative(values[k * kLanes + i] - largest[i]);
        values[k * kLanes + i] = e;
        const auto mine = static_cast<float>(label[i] == k);
        own[i] += mine * e;
        others[i] += (1 - mine) * e;
      }
    }
    for (int64_t i = 0; i < kLanes; ++i) {
      // 1 - p from the other classes, so that nothing cancels.
      const float inverse = 1 / (own[i] + others[i]);
      const float softmax = own[i] * inverse, rest = others[i] * inverse;
      const float p = std::min(std::max(softmax, kLeast), 1 - kLeast),
                  q = std::min(std::max(rest, kLeast), 1 - kLeast);
      const float minus_log_p = minus_log(p, q), power = exp_of_negative(-settings.gamma * minus_log(q, p));
      term[i] = weight[i] * power * minus_log_p;
      const float g = power * (1 + settings.gamma * p * minus_log_p / q);
      const auto sloped = static_cast<float>(!((softmax < kLeast) | (rest < kLeast)));
      const float slope = sloped * settings.factor * weight[i] * g;
      pull[i] = -slope * rest;
      push[i] = slope * inverse;
    }
    for (int64_t i = 0; i < some; ++i, gradient += classes) {
      if (label[i] < 0) {
        std::fill_n(gradient, classes, T(0.0f));
        continue;
      }
      loss += term[i];
      for (int64_t k = 0; k < classes; ++k) gradient[k] = T(push[i] * values[k * kLanes + i]);
      gradient[label[i]] = T(pull[i]);
    }
    x += some * classes;
  }
  return loss;
}

}  // namespace

void prepare_focal_loss(const FocalLoss& op, Prepare& prepare) {
  // The sums of rows, added in their order: the same bits for any number of threads.
  prepare.workspace(static_cast<size_t>(op.logits.dim(0) * op.logits.dim(1)) * sizeof(double));
}

void focal_loss(const FocalLoss& op, const Context& context) {
  const int64_t rows = op.logits.dim(0) * op.logits.dim(1), width = op.logits.dim(2);
  const int64_t across = op.across();
  Settings settings{op.classes(), op.ignored, op.gamma, op.class_weights.as<const float>(), 0};
  const auto labels_of = [&](int64_t row) {
    return op.labels.as<const uint8_t>() + (row * op.down() + op.down() / 2) * op.labels.dim(2) + across / 2;
  };
  std::atomic<int64_t> valid = 0;
  parallel_ranges(context.threads, rows, [&](int64_t begin, int64_t end) {
    int64_t count = 0;
    for (int64_t row = begin; row < end; ++row) {
      const uint8_t* labels = labels_of(row);
      for (int64_t i = 0; i < width; ++i) count += settings.label(labels[i * across]) >= 0;
    }
    valid += count;
  });
  const auto pixels = static_cast<double>(valid);
  if (valid > 0) settings.factor = static_cast<float>(op.scale / pixels);
  auto* sums = static_cast<double*>(context.workspace);
  with_type(op.kName, op.logits.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t stride = width * op.classes();
    parallel_ranges(context.threads, rows, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        sums[row] = focal_row(op.gradient.as<T>() + row * stride, op.logits.as<const T>() + row * stride,
                              labels_of(row), across, width, settings);
      }
    });
  });
  double loss = 0;
  for (int64_t row = 0; row < rows; ++row) loss += sums[row];
  *op.loss.as<float>() = valid > 0 ? static_cast<float>(op.scale * loss / pixels) : 0.0f;
  *op.valid.as<int32_t>() = static_cast<int32_t>(valid);
}

}  // namespace glnet::cpu
