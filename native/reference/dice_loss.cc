#include "reference/pixel_loss.h"

namespace glnet::reference {

void dice_loss(const DiceLoss& op, const Context&) {
  const auto classes = static_cast<size_t>(op.classes());
  const std::vector<int64_t> labels = labels_of(op);
  std::vector<double> predicted(classes), labelled(classes), both(classes);
  double valid = 0;
  for (size_t pixel = 0; pixel < labels.size(); ++pixel) {
    if (labels[pixel] < 0) continue;
    const auto label = static_cast<size_t>(labels[pixel]);
    const std::vector<double> softmax = softmax_of(op, static_cast<int64_t>(pixel));
    for (size_t k = 0; k < classes; ++k) predicted[k] += softmax[k];
    both[label] += softmax[label];
    ++labelled[label];
    ++valid;
  }
  double weights = 0, loss = 0;
  const auto weight = [&](size_t k) {
    return op.class_weights ? load(op.class_weights, static_cast<int64_t>(k)) : 1.0;
  };
  for (size_t k = 0; k < classes; ++k) weights += weight(k);
  // The slopes of the loss with respect to a class's probability in a pixel of another class and in its own.
  std::vector<double> other(classes), own(classes);
  for (size_t k = 0; k < classes; ++k) {
    const double above = 2 * both[k] + op.smooth, below = predicted[k] + labelled[k] + op.smooth;
    const double factor = op.scale * weight(k) / weights;
    loss += factor * (1 - above / below);
    other[k] = factor * above / (below * below);
    own[k] = other[k] - factor * 2 / below;
  }
  for (size_t pixel = 0; pixel < labels.size(); ++pixel) {
    std::vector<double> softmax(classes, 0), slopes(classes, 0);
    if (labels[pixel] >= 0) {
      softmax = softmax_of(op, static_cast<int64_t>(pixel));
      slopes = other;
      slopes[static_cast<size_t>(labels[pixel])] = own[static_cast<size_t>(labels[pixel])];
    }
    store_gradient(op, static_cast<int64_t>(pixel), softmax, slopes);
  }
  store(op.loss, 0, loss);
  store(op.valid, 0, valid);
}

}  // namespace glnet::reference
