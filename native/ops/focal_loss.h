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
// 0, cross entropy, it is 1. A pixel whose label is `ignored`, or no class, is not valid: its logits, even
// NaN, have no effect, and its gradient is 0. A valid pixel with a NaN or +inf makes the loss and its own
// gradient NaN.
#pragma once

#include <cmath>

#include "core/fields.h"

namespace glnet {

struct FocalLoss {
  static constexpr const char* kName = "focal_loss";
  static constexpr float kLeast = 1e-7f;  ///< of p and of 1 - p

  In logits;            ///< [N, h, w, K], 2 to 256 classes
  In labels;            ///< [N, H, W], uint8; H and W are multiples of h and w. A pixel's label is the one at
                        ///< floor((row + 0.5) * H / h), and so for columns.
  Maybe class_weights;  ///< [K], float32: w; 1 without. The mean stays one over the number of valid pixels.
  float gamma = 6;      ///< 0 or more
  int ignored = -1;     ///< a label; -1: none
  float scale = 1;      ///< factor on the loss and the gradient
  Out loss;             ///< [1], float32; 0 if no pixel is valid
  Out valid;            ///< [1], int32: the number of valid pixels
  Out gradient;         ///< of the shape and dtype of logits

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
    check_rank(kName, "logits", logits, 4);
    check_rank(kName, "labels", labels, 3);
    check(is_floating(logits.dtype) && logits.dtype != DType::float16, kName, ": logits cannot be ",
          name_of(logits.dtype));
    check_dtype(kName, "labels", labels, DType::uint8);
    check(classes() >= 2 && classes() <= 256, kName, ": logits of ", classes(),
          " classes; expected 2 to 256");
    check(pixels() <= INT32_MAX, kName, ": logits ", logits.shape, " have too many pixels");
    check(labels.dim(0) == logits.dim(0) && labels.dim(1) % logits.dim(1) == 0 &&
              labels.dim(2) % logits.dim(2) == 0,
          kName, ": labels ", labels.shape, " are not a multiple of the grid of logits ", logits.shape);
    if (class_weights) {
      check_shape(kName, "classWeights", class_weights, {classes()});
      check_float32(kName, "classWeights", class_weights);
    }
    check(gamma >= 0 && std::isfinite(gamma), kName, ": gamma ", gamma, " must be 0 or more, and finite");
    check(ignored >= -1 && ignored <= 255, kName, ": ignored ", ignored, " must be a label, or -1");
    loss.shape = valid.shape = {1};
    loss.dtype = DType::float32;
    valid.dtype = DType::int32;
    gradient.shape = logits.shape;
    gradient.dtype = logits.dtype;
  }

  int64_t classes() const { return logits.dim(3); }
  int64_t pixels() const { return logits.dim(0) * logits.dim(1) * logits.dim(2); }
  /// Labels to a pixel of the logits, down and across.
  int64_t down() const { return labels.dim(1) / logits.dim(1); }
  int64_t across() const { return labels.dim(2) / logits.dim(2); }

  double multiply_adds() const { return 2 * static_cast<double>(logits.size()); }
};

}  // namespace glnet
