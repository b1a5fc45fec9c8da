// lovasz_loss: the Lovász-Softmax loss (Berman et al., "The Lovász-Softmax loss: A tractable surrogate for
// the optimization of the intersection-over-union measure in neural networks", CVPR 2018) and its gradient,
// over the classes that occur among the valid labels, and all valid pixels of the batch together.
//
// The error of a pixel for class k is |[label = k] - s_k|, with s the softmax of its logits. For each class
// the errors are taken in descending order, equal ones in the order of the pixels, and each is weighted by
// what it adds to the Jaccard loss when the pixels up to it are wrong. With G pixels of the class, a of them
// and b others before this one, that is
//
//   1 / (G + b)                            for a pixel of the class
//   (G - a) / ((G + b) * (G + b + 1))      for another
//
//   loss = scale * mean over these classes of the sum of weight * error
//
// The gradient takes the weights as constants: where errors are equal it is one of several subgradients. A
// valid pixel with a NaN or +inf makes the loss and the gradients of all valid pixels NaN.
#pragma once

#include "ops/pixel_loss.h"

namespace glnet {

struct LovaszLoss : PixelLoss {
  static constexpr const char* kName = "lovasz_loss";

  // logits and their gradient are float32

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("logits", op.logits);
    visit("labels", op.labels);
    visit("ignored", op.ignored);
    visit("scale", op.scale);
    visit("loss", op.loss);
    visit("valid", op.valid);
    visit("gradient", op.gradient);
  }

  void infer() {
    check_float32(kName, "logits", logits);
    infer_pixels(kName);
  }

  double multiply_adds() const { return 4 * static_cast<double>(logits.size()); }
};

}  // namespace glnet
