// What losses over pixels share: logits of classes on a grid, and labels on the same grid or a finer one.
//
// A pixel whose label is `ignored`, or no class, is not valid: its logits, even NaN, have no effect, and its
// gradient is 0.
#pragma once

#include <cmath>

#include "core/fields.h"

namespace glnet {

struct PixelLoss {
  In logits;         ///< [N, h, w, K], 2 to 256 classes
  In labels;         ///< [N, H, W], uint8; H and W are multiples of h and w. A pixel's label is the one at
                     ///< floor((row + 0.5) * H / h), and so for columns.
  int ignored = -1;  ///< a label; -1: none
  float scale = 1;   ///< factor on the loss and the gradient
  Out loss;          ///< [1], float32; 0 if no pixel is valid
  Out valid;         ///< [1], int32: the number of valid pixels
  Out gradient;      ///< of the loss with respect to logits, of their shape and dtype

  int64_t classes() const { return logits.dim(3); }
  int64_t pixels() const { return logits.dim(0) * logits.dim(1) * logits.dim(2); }
  /// Labels to a pixel of the logits, down and across.
  int64_t down() const { return labels.dim(1) / logits.dim(1); }
  int64_t across() const { return labels.dim(2) / logits.dim(2); }

 protected:
  /// Checks the members above, sets the outputs.
  void infer_pixels(const char* op) {
    check_rank(op, "logits", logits, 4);
    check_rank(op, "labels", labels, 3);
    check_dtype(op, "labels", labels, DType::uint8);
    check(classes() >= 2 && classes() <= 256, op, ": logits of ", classes(), " classes; expected 2 to 256");
    check(pixels() <= INT32_MAX, op, ": logits ", logits.shape, " have too many pixels");
    check(labels.dim(0) == logits.dim(0) && labels.dim(1) % logits.dim(1) == 0 &&
              labels.dim(2) % logits.dim(2) == 0,
          op, ": labels ", labels.shape, " are not a multiple of the grid of logits ", logits.shape);
    check(std::isfinite(scale), op, ": scale ", scale, " must be finite");
    check(ignored >= -1 && ignored <= 255, op, ": ignored ", ignored, " must be a label, or -1");
    loss.shape = valid.shape = {1};
    loss.dtype = DType::float32;
    valid.dtype = DType::int32;
    gradient.shape = logits.shape;
    gradient.dtype = logits.dtype;
  }
  /// Checks weights of classes, where they are given.
  void check_class_weights(const char* op, const Maybe& weights) const {
    if (!weights) return;
    check_shape(op, "classWeights", weights, {classes()});
    check_float32(op, "classWeights", weights);
  }
};

}  // namespace glnet
