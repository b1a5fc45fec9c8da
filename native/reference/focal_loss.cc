#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "reference/kernels.h"

namespace glnet::reference {

void focal_loss(const FocalLoss& op, const Context&) {
  const int64_t height = op.logits.dim(1), width = op.logits.dim(2), classes = op.classes();
  std::vector<int64_t> labels;
  int64_t valid = 0;
  for (int64_t n = 0; n < op.logits.dim(0); ++n) {
    for (int64_t row = 0; row < height; ++row) {
      for (int64_t column = 0; column < width; ++column) {
        const int64_t y = (2 * row + 1) * op.labels.dim(1) / (2 * height),
                      x = (2 * column + 1) * op.labels.dim(2) / (2 * width);
        const auto label =
            static_cast<int64_t>(load(op.labels, (n * op.labels.dim(1) + y) * op.labels.dim(2) + x));
        const bool counts = label < classes && label != op.ignored;
        labels.push_back(counts ? label : -1);
        valid += counts;
      }
    }
  }
  const double least = 1e-7, gamma = op.gamma;
  double loss = 0;
  std::vector<double> softmax(static_cast<size_t>(classes));
  for (int64_t pixel = 0; pixel < op.pixels(); ++pixel) {
    const int64_t first = pixel * classes, label = labels[static_cast<size_t>(pixel)];
    if (label < 0) {
      for (int64_t k = 0; k < classes; ++k) store(op.gradient, first + k, 0);
      continue;
    }
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t k = 0; k < classes; ++k) largest = std::max(largest, load(op.logits, first + k));
    for (int64_t k = 0; k < classes; ++k) {
      sum += softmax[static_cast<size_t>(k)] = std::exp(load(op.logits, first + k) - largest);
    }
    for (double& s : softmax) s /= sum;
    const double unclamped = softmax[static_cast<size_t>(label)];
    const double p = std::clamp(unclamped, least, 1 - least);
    const double factor =
        op.scale * (op.class_weights ? load(op.class_weights, label) : 1) / static_cast<double>(valid);
    loss += factor * -std::pow(1 - p, gamma) * std::log(p);
    double g = std::pow(1 - p, gamma) - gamma * p * std::pow(1 - p, gamma - 1) * std::log(p);
    if (unclamped < least || unclamped > 1 - least) g = 0;
    for (int64_t k = 0; k < classes; ++k) {
      store(op.gradient, first + k, factor * g * (softmax[static_cast<size_t>(k)] - (k == label)));
    }
  }
  store(op.loss, 0, loss);
  store(op.valid, 0, static_cast<double>(valid));
}

}  // namespace glnet::reference
