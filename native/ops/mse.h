// mse: the mean squared error of two maps, and its gradient:
//
//   loss     = scale * mean((a - b)^2)
//   gradient = d loss / d a = 2 * scale * (a - b) / n,  with n elements; that with respect to b is its
//   negative
#pragma once

#include <cmath>

#include "core/fields.h"

namespace glnet {

struct Mse {
  static constexpr const char* kName = "mse";

  In a, b;          ///< any shape that is not empty, the same for both, float32
  float scale = 1;  ///< factor on the loss and the gradient
  Out loss;         ///< [1], float32
  Out gradient;     ///< of a's shape, float32

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("a", op.a);
    visit("b", op.b);
    visit("scale", op.scale);
    visit("loss", op.loss);
    visit("gradient", op.gradient);
  }

  void infer() {
    check_float32(kName, "a", a);
    check_float32(kName, "b", b);
    check_shape(kName, "b", b, a.shape);
    check(a.size() > 0, kName, ": a is empty: ", a.shape);
    check(std::isfinite(scale), kName, ": scale ", scale, " must be finite");
    loss.shape = {1};
    gradient.shape = a.shape;
    loss.dtype = gradient.dtype = a.dtype;
  }

  /// The factor on a - b in the gradient.
  double factor() const { return 2.0 * scale / static_cast<double>(a.size()); }

  double multiply_adds() const { return static_cast<double>(a.size()); }
};

}  // namespace glnet
