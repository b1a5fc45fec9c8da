// sum_of_squares: the sum of squares of each of a list of tensors: norms of gradients, for clipping, and the
// watch for NaN. Summed in double; a NaN or an infinity shows in the sum of its tensor only.
#pragma once

#include "core/fields.h"

namespace glnet {

struct SumOfSquares {
  static constexpr const char* kName = "sum_of_squares";

  std::vector<In> inputs;  ///< any shapes, float32; an empty one has sum 0
  Out sums;                ///< [inputs], float32; infinite above the largest float32

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("inputs", op.inputs);
    visit("sums", op.sums);
  }

  void infer() {
    check(!inputs.empty(), kName, ": there is no input");
    for (const In& x : inputs) check_float32(kName, "input", x);
    sums.shape = {static_cast<int64_t>(inputs.size())};
    sums.dtype = DType::float32;
  }

  double multiply_adds() const {
    double n = 0;
    for (const In& x : inputs) n += static_cast<double>(x.size());
    return n;
  }
};

}  // namespace glnet
