// dice_loss: the soft Dice loss of softmax probabilities (Milletari et al., "V-Net: Fully Convolutional
// Neural Networks for Volumetric Medical Image Segmentation", 3DV 2016; here with sums of probabilities, not
// of their squares, below) and its gradient. With s_k the softmax probability of class k and t_k 1 where the
// label is k, else 0, summed over the valid pixels of the whole batch:
//
//   dice_k = (2 * sum s_k t_k + smooth) / (sum s_k + sum t_k + smooth)
//   loss   = scale * (1 - sum w_k dice_k / sum w_k)
//
// A valid pixel with a NaN or +inf makes the loss and the gradients of all valid pixels NaN.
#pragma once

#include <cmath>

#include "ops/pixel_loss.h"

namespace glnet {

struct DiceLoss : PixelLoss {
  static constexpr const char* kName = "dice_loss";

  // logits and their gradient are float32
  Maybe class_weights;  ///< [K], float32: w, not all 0; 1 without
  float smooth = 1;     ///< above 0: what a class that does not occur needs to be found right

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("logits", op.logits);
    visit("labels", op.labels);
    visit("classWeights", op.class_weights);
    visit("ignored", op.ignored);
    visit("smooth", op.smooth);
    visit("scale", op.scale);
    visit("loss", op.loss);
    visit("valid", op.valid);
    visit("gradient", op.gradient);
  }

  void infer() {
    check_float32(kName, "logits", logits);
    infer_pixels(kName);
    check_class_weights(kName, class_weights);
    check(smooth > 0 && std::isfinite(smooth), kName, ": smooth ", smooth, " must be above 0, and finite");
  }

  double multiply_adds() const { return 4 * static_cast<double>(logits.size()); }
};

}  // namespace glnet
