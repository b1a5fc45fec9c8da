// concat: joins maps along their channels.
#pragma once

#include "core/fields.h"

namespace glnet {

struct Concat {
  static constexpr const char* kName = "concat";

  std::vector<In> inputs;  ///< [N, H, W, C_i], all of one dtype
  Out y;                   ///< [N, H, W, sum of C_i]

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("inputs", op.inputs);
    visit("y", op.y);
  }

  void infer() {
    check(!inputs.empty(), kName, ": there is no input");
    check_rank(kName, "input", inputs[0], 4);
    y.shape = inputs[0].shape;
    y.shape[3] = 0;
    y.dtype = inputs[0].dtype;
    for (const In& x : inputs) {
      check_rank(kName, "input", x, 4);
      check_shape(kName, "input", x, {y.dim(0), y.dim(1), y.dim(2), x.dim(3)});
      check_dtype(kName, "input", x, y.dtype);
      y.shape[3] += x.dim(3);
    }
  }

  double multiply_adds() const { return 0; }
};

}  // namespace glnet
