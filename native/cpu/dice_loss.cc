#include <vector>

#include "cpu/kernels.h"
#include "cpu/pixel_loss.h"

namespace glnet::cpu {
namespace {

/// What a row, or all of them, have of a class: sums over valid pixels. The loss is made of what is wrong,
/// summed by itself, so that nothing cancels where it is almost 0.
struct ClassSums {
  double labelled = 0;      ///< pixels of the class
  double right = 0;         ///< probabilities of the class there
  double missed = 0;        ///< and of the other classes
  double false_alarms = 0;  ///< probabilities of the class elsewhere

  void operator+=(const ClassSums& other) {
    labelled += other.labelled, right += other.right;
    missed += other.missed, false_alarms += other.false_alarms;
  }
};

/// Pixels of one row: their softmax, 0 where the label does not count, and the row's sums.
GLNET_MULTIVERSION void predict_row(float* softmax, const float* x, const uint8_t* row, int64_t pixels,
                                    const Labels& labels, ClassSums* sums) {
  const int64_t classes = labels.classes;
  Lanes lanes;
  float false_alarms[kMostClasses * kLanes];
  std::fill_n(false_alarms, classes * kLanes, 0.0f);
  std::fill_n(sums, classes, ClassSums{});
  for (int64_t first = 0; first < pixels; first += kLanes) {
    const int64_t some = std::min(kLanes, pixels - first);
    lanes.read(x, row + first * labels.across, some, labels);
    float inverse[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      inverse[i] = lanes.label[i] < 0 ? 0.0f : 1 / lanes.all[i];
    }
    for (int32_t k = 0; k < classes; ++k) {
      for (int64_t i = 0; i < kLanes; ++i) {
        const float s = lanes.values[k * kLanes + i] * inverse[i];
        lanes.values[k * kLanes + i] = s;
        false_alarms[k * kLanes + i] += lanes.label[i] == k ? 0.0f : s;
      }
    }
    for (int64_t i = 0; i < some; ++i) {
      for (int64_t k = 0; k < classes; ++k) softmax[i * classes + k] = lanes.values[k * kLanes + i];
      if (lanes.label[i] < 0) continue;
      ClassSums& own = sums[lanes.label[i]];
      ++own.labelled;
      own.right += lanes.own[i] * inverse[i];
      own.missed += lanes.others[i] * inverse[i];
    }
    x += some * classes;
    softmax += some * classes;
  }
  for (int64_t k = 0; k < classes; ++k) {
    for (int64_t i = 0; i < kLanes; ++i) sums[k].false_alarms += false_alarms[k * kLanes + i];
  }
}

/// Slopes of the loss with respect to a class's probability in a pixel of another class, and in its own.
struct Slopes {
  double other, own;
};

GLNET_MULTIVERSION void gradient_row(float* softmax, const uint8_t* row, int64_t pixels, const Labels& labels,
                                     const Slopes* slopes) {
  for (int64_t i = 0; i < pixels; ++i, softmax += labels.classes) {
    const int32_t label = labels.label(row[i * labels.across]);
    if (label < 0) continue;
    softmax_backward(softmax, labels.classes,
                     [=](int64_t k) { return k == label ? slopes[k].own : slopes[k].other; });
  }
}

}  // namespace

void prepare_dice_loss(const DiceLoss& op, Prepare& prepare) {
  // The sums of rows, added in their order: the same bits for any number of threads.
  prepare.workspace(static_cast<size_t>(op.logits.dim(0) * op.logits.dim(1) * op.classes()) *
                    sizeof(ClassSums));
}

void dice_loss(const DiceLoss& op, const Context& context) {
  const int64_t rows = op.logits.dim(0) * op.logits.dim(1), width = op.logits.dim(2), classes = op.classes();
  const Labels labels(op);
  auto* sums = static_cast<ClassSums*>(context.workspace);
  auto* gradient = op.gradient.as<float>();
  parallel_ranges(context.threads, rows, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      predict_row(gradient + row * width * classes, op.logits.as<const float>() + row * width * classes,
                  labels.row(row), width, labels, sums + row * classes);
    }
  });
  const auto* class_weights = op.class_weights.as<const float>();
  const auto weight = [&](int64_t k) { return class_weights ? static_cast<double>(class_weights[k]) : 1.0; };
  double weights = 0, loss = 0, valid = 0;
  for (int64_t k = 0; k < classes; ++k) weights += weight(k);
  std::vector<Slopes> slopes(static_cast<size_t>(classes));
  for (int64_t k = 0; k < classes; ++k) {
    ClassSums sum;
    for (int64_t row = 0; row < rows; ++row) {
      sum += sums[row * classes + k];
    }
    const double above = 2 * sum.right + op.smooth,
                 below = sum.right + sum.false_alarms + sum.labelled + op.smooth;
    const double factor = op.scale * weight(k) / weights, other = factor * above / (below * below);
    loss += factor * (sum.missed + sum.false_alarms) / below;
    valid += sum.labelled;
    slopes[static_cast<size_t>(k)] = {other, other - factor * 2 / below};
  }
  parallel_ranges(context.threads, rows, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      gradient_row(gradient + row * width * classes, labels.row(row), width, labels, slopes.data());
    }
  });
  *op.loss.as<float>() = static_cast<float>(loss);
  *op.valid.as<int32_t>() = static_cast<int32_t>(valid);
}

}  // namespace glnet::cpu
