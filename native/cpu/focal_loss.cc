#include <cmath>

#include "cpu/kernels.h"
#include "cpu/log.h"
#include "cpu/pixel_loss.h"

namespace glnet::cpu {
namespace {

struct Settings {
  float gamma;
  const float* class_weights;  ///< may be null
  float factor;                ///< scale / valid pixels
};

/// Pixels of one row: the gradient. Returns the sum of the losses.
template <class T>
GLNET_MULTIVERSION double focal_row(T* gradient, const T* x, const uint8_t* row, int64_t pixels,
                                    const Labels& labels, const Settings& settings) {
  constexpr float kLeast = FocalLoss::kLeast;
  const int64_t classes = labels.classes;
  Lanes lanes;
  double loss = 0;
  for (int64_t first = 0; first < pixels; first += kLanes) {
    const int64_t some = std::min(kLanes, pixels - first);
    lanes.read(x, row + first * labels.across, some, labels);
    float term[kLanes], pull[kLanes], push[kLanes], weight[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      weight[i] =
          settings.class_weights && lanes.label[i] >= 0 ? settings.class_weights[lanes.label[i]] : 1.0f;
    }
    for (int64_t i = 0; i < kLanes; ++i) {
      const float inverse = 1 / lanes.all[i];
      const float softmax = lanes.own[i] * inverse, rest = lanes.others[i] * inverse;
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
      const int32_t label = lanes.label[i];
      if (label < 0) {
        std::fill_n(gradient, classes, T(0.0f));
        continue;
      }
      loss += term[i];
      for (int64_t k = 0; k < classes; ++k) gradient[k] = T(push[i] * lanes.values[k * kLanes + i]);
      gradient[label] = T(pull[i]);
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
  const Labels labels(op);
  Settings settings{op.gamma, op.class_weights.as<const float>(), 0};
  const int64_t valid = count_valid(op, context.threads);
  const auto pixels = static_cast<double>(valid);
  if (valid > 0) settings.factor = static_cast<float>(op.scale / pixels);
  auto* sums = static_cast<double*>(context.workspace);
  with_type(op.kName, op.logits.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t stride = width * op.classes();
    parallel_ranges(context.threads, rows, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        sums[row] = focal_row(op.gradient.as<T>() + row * stride, op.logits.as<const T>() + row * stride,
                              labels.row(row), width, labels, settings);
      }
    });
  });
  double loss = 0;
  for (int64_t row = 0; row < rows; ++row) loss += sums[row];
  *op.loss.as<float>() = valid > 0 ? static_cast<float>(op.scale * loss / pixels) : 0.0f;
  *op.valid.as<int32_t>() = static_cast<int32_t>(valid);
}

}  // namespace glnet::cpu
