#include "reference/pixel_loss.h"

namespace glnet::reference {

void focal_loss(const FocalLoss& op, const Context&) {
  const int64_t classes = op.classes();
  const std::vector<int64_t> labels = labels_of(op);
  const auto valid = static_cast<double>(
      std::count_if(labels.begin(), labels.end(), [](int64_t label) { return label >= 0; }));
  const double least = 1e-7, gamma = op.gamma;
  double loss = 0;
  for (int64_t pixel = 0; pixel < op.pixels(); ++pixel) {
    const int64_t first = pixel * classes, label = labels[static_cast<size_t>(pixel)];
    if (label < 0) {
      for (int64_t k = 0; k < classes; ++k) store(op.gradient, first + k, 0);
      continue;
    }
    const std::vector<double> softmax = softmax_of(op, pixel);
    const double unclamped = softmax[static_cast<size_t>(label)];
    const double p = std::clamp(unclamped, least, 1 - least);
    const double factor = op.scale * (op.class_weights ? load(op.class_weights, label) : 1) / valid;
    loss += factor * -std::pow(1 - p, gamma) * std::log(p);
    double g = std::pow(1 - p, gamma) - gamma * p * std::pow(1 - p, gamma - 1) * std::log(p);
    if (unclamped < least || unclamped > 1 - least) g = 0;
    for (int64_t k = 0; k < classes; ++k) {
      store(op.gradient, first + k, factor * g * (softmax[static_cast<size_t>(k)] - (k == label)));
    }
  }
  store(op.loss, 0, loss);
  store(op.valid, 0, valid);
}

}  // namespace glnet::reference
