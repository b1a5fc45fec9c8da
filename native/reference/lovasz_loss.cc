#include "reference/pixel_loss.h"

namespace glnet::reference {

void lovasz_loss(const LovaszLoss& op, const Context&) {
  const auto classes = static_cast<size_t>(op.classes());
  const std::vector<int64_t> labels = labels_of(op);
  std::vector<std::vector<double>> softmax(labels.size(), std::vector<double>(classes, 0)), slopes = softmax,
                                                                                            errors = softmax;
  std::vector<size_t> pixels;
  std::vector<double> occurring(classes);
  bool is_nan = false;
  for (size_t pixel = 0; pixel < labels.size(); ++pixel) {
    if (labels[pixel] < 0) continue;
    pixels.push_back(pixel);
    const auto label = static_cast<size_t>(labels[pixel]);
    ++occurring[label];
    softmax[pixel] = errors[pixel] = softmax_of(op, static_cast<int64_t>(pixel));
    // 1 - s_k from the other classes: as with two classes, so that equal errors are found equal.
    errors[pixel][label] = 0;
    for (size_t k = 0; k < classes; ++k) {
      if (k != label) errors[pixel][label] += softmax[pixel][k];
    }
    is_nan = is_nan || std::isnan(errors[pixel][label]);
  }
  const auto present =
      static_cast<double>(std::count_if(occurring.begin(), occurring.end(), [](double n) { return n > 0; }));
  double loss = 0;
  for (size_t k = 0; k < classes && !is_nan; ++k) {
    if (occurring[k] == 0) continue;
    std::vector<size_t> order = pixels;
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return errors[a][k] > errors[b][k]; });
    // The Jaccard loss when all pixels up to here are wrong, and when those before are.
    double own = 0, others = 0, before = 0;
    for (const size_t pixel : order) {
      const bool mine = labels[pixel] == static_cast<int64_t>(k);
      (mine ? own : others) += 1;
      const double jaccard = 1 - (occurring[k] - own) / (occurring[k] + others);
      const double weight = op.scale / present * (jaccard - before);
      before = jaccard;
      loss += weight * errors[pixel][k];
      slopes[pixel][k] = mine ? -weight : weight;
    }
  }
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const size_t pixel : pixels) {
    if (is_nan) slopes[pixel].assign(classes, nan);
  }
  for (size_t pixel = 0; pixel < labels.size(); ++pixel) {
    store_gradient(op, static_cast<int64_t>(pixel), softmax[pixel], slopes[pixel]);
  }
  store(op.loss, 0, is_nan ? nan : loss);
  store(op.valid, 0, static_cast<double>(pixels.size()));
}

}  // namespace glnet::reference
