// focal_loss: the focal loss of softmax probabilities (Lin et al., "Focal Loss for Dense Object Detection",
// ICCV 2017) and its gradient. With s the softmax of a pixel's logits z, y its label and p = s_y, clamped to
// [1e-7, 1 - 1e-7]:
//
//   loss     = scale * sum over the valid pixels of w_y * -(1 - p)^gamma * log p / valid
//   gradient = d loss / d z_k = scale / valid * w_y * g * (s_k - [k = y])
//   with g   = (1 - p)^gamma - gamma * p * (1 - p)^(gamma - 1) * log p
//            = (1 - p)^gamma * (1 + gamma * p * -log p / (1 - p)),  and 0 where p is clamped
//
// g is -p times the derivative of -(1 - p)^gamma * log p; d p / d z_k = p * ([k = y] - s_k) does the rest.
// The clamp has no slope. It keeps 1 - p away from 0, so that the second form of g holds for every gamma: for
// 0, cross entropy, it is 1. A valid pixel with a NaN or +inf makes the loss and its own gradient NaN.
#pragma once

#include <cmath>

#include "ops/pixel_loss.h"

namespace glnet {

struct FocalLoss : PixelLoss {
  static constexpr const char* kName = "focal_loss";
  static constexpr float kLeast = 1e-7f;  ///< of p and of 1 - p

  Maybe class_weights;  ///< [K], float32: w; 1 without. The mean stays one over the number of valid pixels.
  float gamma = 6;      ///< 0 or more

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("logits", op.logits);
    visit("labels", op.labels);
    visit("classWeights", op.class_weights);
    visit("gamma", op.gamma);
    visit("ignored", op.ignored);
    visit("scale", op.scale);
    visit("loss", op.loss);
    visit("valid", op.valid);
    visit("gradient", op.gradient);
  }

  void infer() {
    check(is_floating(logits.dtype) && logits.dtype != DType::float16, kName, ": logits cannot be ",
          name_of(logits.dtype));
    infer_pixels(kName);
    check_class_weights(kName, class_weights);
    check(gamma >= 0 && std::isfinite(gamma), kName, ": gamma ", gamma, " must be 0 or more, and finite");
  }

  double multiply_adds() const { return 2 * static_cast<double>(logits.size()); }
};

}  // namespace glnet
