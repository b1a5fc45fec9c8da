// First every pixel's softmax, in the place of its gradient, and its errors, class by class; then for each
// class a sort of its errors, which slopes take the place of; then the gradients. Errors lie from 0 to 1,
// where floats have the order of their bits: a radix sort of 30 bits, which keeps equal errors in the order
// of pixels.
#include <array>
#include <bit>
#include <cmath>
#include <utility>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/pixel_loss.h"

namespace glnet::cpu {
namespace {

/// Pixels of one row: softmax and errors, 0 where the label does not count. Errors are `stride` apart from
/// class to class. Returns whether one is NaN.
GLNET_MULTIVERSION bool predict_row(float* softmax, float* errors, int64_t stride, const float* x,
                                    const uint8_t* row, int64_t pixels, const Labels& labels) {
  const int64_t classes = labels.classes;
  Lanes lanes;
  bool is_nan = false;
  for (int64_t first = 0; first < pixels; first += kLanes) {
    const int64_t some = std::min(kLanes, pixels - first);
    lanes.read(x, row + first * labels.across, some, labels);
    float inverse[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      inverse[i] = lanes.label[i] < 0 ? 0.0f : 1 / lanes.all[i];
      is_nan |= inverse[i] != inverse[i];
    }
    for (int64_t k = 0; k < classes; ++k) {
      float* values = lanes.values + k * kLanes;
      for (int64_t i = 0; i < kLanes; ++i) values[i] = std::min(values[i] * inverse[i], 1.0f);
      std::copy_n(values, some, errors + k * stride + first);
    }
    for (int64_t i = 0; i < some; ++i) {
      for (int64_t k = 0; k < classes; ++k) softmax[i * classes + k] = lanes.values[k * kLanes + i];
      if (lanes.label[i] < 0) continue;
      errors[lanes.label[i] * stride + first + i] = std::min(lanes.others[i] * inverse[i], 1.0f);
    }
    x += some * classes;
    softmax += some * classes;
  }
  return is_nan;
}

struct Item {
  uint32_t key;  ///< ascending as the error descends
  int32_t pixel;

  static constexpr uint32_t kOne = std::bit_cast<uint32_t>(1.0f);
  static Item of(float error, int64_t pixel) {
    return {kOne - std::bit_cast<uint32_t>(error), static_cast<int32_t>(pixel)};
  }
  float error() const { return std::bit_cast<float>(kOne - key); }
};

/// Sorts by key, equal ones as they come; `spare` has as much room. Returns which of the two has the result.
Item* radix_sort(Item* items, Item* spare, int64_t n) {
  constexpr int kBits = 10, kPasses = 3;
  constexpr uint32_t kDigits = 1u << kBits;
  std::array<std::array<int32_t, kDigits>, kPasses> starts{};
  const auto digit = [](const Item& item, int pass) { return (item.key >> (pass * kBits)) & (kDigits - 1); };
  for (int64_t i = 0; i < n; ++i) {
    for (int pass = 0; pass < kPasses; ++pass) ++starts[static_cast<size_t>(pass)][digit(items[i], pass)];
  }
  for (int pass = 0; pass < kPasses; ++pass) {
    auto& start = starts[static_cast<size_t>(pass)];
    int32_t before = 0;
    for (int32_t& s : start) before += std::exchange(s, before);
    for (int64_t i = 0; i < n; ++i) spare[start[digit(items[i], pass)]++] = items[i];
    std::swap(items, spare);
  }
  return items;
}

/// One class: slopes in place of the errors. `items` has room for two for each pixel. Returns the loss.
double weigh(float* errors, const int32_t* labels, int32_t k, int64_t pixels, double occurring, double factor,
             Item* items) {
  int64_t n = 0;
  for (int64_t i = 0; i < pixels; ++i) {
    if (labels[i] >= 0) items[n++] = Item::of(errors[i], i);
  }
  const Item* sorted = radix_sort(items, items + pixels, n);
  double own = 0, others = 0, loss = 0;
  for (int64_t i = 0; i < n; ++i) {
    const bool mine = labels[sorted[i].pixel] == k;
    const double all = occurring + others;
    const double weight = factor * (mine ? 1 / all : (occurring - own) / (all * (all + 1)));
    (mine ? own : others) += 1;
    loss += weight * sorted[i].error();
    errors[sorted[i].pixel] = static_cast<float>(mine ? -weight : weight);
  }
  return loss;
}

/// Threads that sort at the same time.
int64_t sorters(const LovaszLoss& op, int threads) {
  return std::min<int64_t>(threads, op.classes());
}

/// The parts of the workspace.
struct Workspace {
  Item* items;      ///< [sorters, 2, pixels]
  float* errors;    ///< [classes, pixels], then slopes
  int32_t* labels;  ///< [pixels]

  static size_t bytes(const LovaszLoss& op, int threads) {
    return static_cast<size_t>(op.pixels()) *
           (static_cast<size_t>(sorters(op, threads)) * 2 * sizeof(Item) +
            static_cast<size_t>(op.classes()) * sizeof(float) + sizeof(int32_t));
  }
  Workspace(const LovaszLoss& op, const Context& context)
      : items(static_cast<Item*>(context.workspace)),
        errors(reinterpret_cast<float*>(items + sorters(op, context.threads) * 2 * op.pixels())),
        labels(reinterpret_cast<int32_t*>(errors + op.classes() * op.pixels())) {}
};

}  // namespace

void prepare_lovasz_loss(const LovaszLoss& op, Prepare& prepare) {
  prepare.workspace(Workspace::bytes(op, prepare.threads()));
}

void lovasz_loss(const LovaszLoss& op, const Context& context) {
  const int64_t rows = op.logits.dim(0) * op.logits.dim(1), width = op.logits.dim(2), classes = op.classes(),
                pixels = op.pixels();
  const Labels labels(op);
  const Workspace workspace(op, context);
  auto* gradient = op.gradient.as<float>();
  std::atomic<bool> is_nan = false;
  parallel_ranges(context.threads, rows, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t first = row * width;
      for (int64_t i = 0; i < width; ++i)
        workspace.labels[first + i] = labels.label(labels.row(row)[i * labels.across]);
      if (predict_row(gradient + first * classes, workspace.errors + first, pixels,
                      op.logits.as<const float>() + first * classes, labels.row(row), width, labels)) {
        is_nan = true;
      }
    }
  });
  std::vector<int64_t> occurring(static_cast<size_t>(classes));
  int64_t valid = 0;
  for (int64_t i = 0; i < pixels; ++i) {
    if (workspace.labels[i] < 0) continue;
    ++occurring[static_cast<size_t>(workspace.labels[i])];
    ++valid;
  }
  const auto present = classes - std::count(occurring.begin(), occurring.end(), 0);
  *op.valid.as<int32_t>() = static_cast<int32_t>(valid);

  std::vector<double> losses(static_cast<size_t>(classes));
  const int64_t parts = sorters(op, context.threads);
  parallel_for(context.threads, is_nan ? 0 : parts, [&](int64_t part) {
    for (int64_t k = part; k < classes; k += parts) {
      float* errors = workspace.errors + k * pixels;
      const auto n = static_cast<double>(occurring[static_cast<size_t>(k)]);
      if (n == 0) {
        std::fill_n(errors, pixels, 0.0f);
        continue;
      }
      losses[static_cast<size_t>(k)] =
          weigh(errors, workspace.labels, static_cast<int32_t>(k), pixels, n,
                op.scale / static_cast<double>(present), workspace.items + part * 2 * pixels);
    }
  });
  double loss = 0;
  for (const double l : losses) loss += l;
  *op.loss.as<float>() = is_nan ? NAN : static_cast<float>(loss);

  parallel_ranges(context.threads, pixels, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (workspace.labels[i] < 0) continue;
      if (is_nan) {
        std::fill_n(gradient + i * classes, classes, NAN);
      } else {
        softmax_backward(gradient + i * classes, classes,
                         [=](int64_t k) { return static_cast<double>(workspace.errors[k * pixels + i]); });
      }
    }
  });
}

}  // namespace glnet::cpu
