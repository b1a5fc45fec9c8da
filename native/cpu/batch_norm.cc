#include <cmath>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

template <bool kResidual, bool kRelu, class T>
GLNET_MULTIVERSION void normalise(T* __restrict y, const T* x, const T* residual, const float* scale,
                                  const float* shift, int64_t pixels, int64_t channels) {
  for (int64_t i = 0; i < pixels; ++i) {
    for (int64_t c = 0; c < channels; ++c) {
      float v = static_cast<float>(x[c]) * scale[c] + shift[c];
      if constexpr (kResidual) v += static_cast<float>(residual[c]);
      y[c] = T(kRelu && v < 0 ? 0.0f : v);
    }
    x += channels;
    y += channels;
    if constexpr (kResidual) residual += channels;
  }
}

}  // namespace

void batch_norm(const BatchNorm& op, const Context& context) {
  const int64_t channels = op.x.dim(3);
  std::vector<float> scale(static_cast<size_t>(channels)), shift(scale.size());
  for (size_t c = 0; c < scale.size(); ++c) {
    const double s =
        op.weight.as<float>()[c] / std::sqrt(static_cast<double>(op.variance.as<float>()[c]) + op.epsilon);
    scale[c] = static_cast<float>(s);
    shift[c] = static_cast<float>(op.bias.as<float>()[c] - op.mean.as<float>()[c] * s);
  }
  with_type(op.kName, op.x.dtype, [&](auto t) {
    using T = decltype(t);
    const auto run = op.residual ? (op.relu ? normalise<true, true, T> : normalise<true, false, T>)
                                 : (op.relu ? normalise<false, true, T> : normalise<false, false, T>);
    parallel_ranges(context.threads, op.x.size() / channels, [&](int64_t begin, int64_t end) {
      const int64_t first = begin * channels;
      run(op.y.as<T>() + first, op.x.as<const T>() + first,
          op.residual ? op.residual.as<const T>() + first : nullptr, scale.data(), shift.data(), end - begin,
          channels);
    });
  });
}

}  // namespace glnet::cpu
