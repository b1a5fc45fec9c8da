#include <cmath>

#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/pieces.h"

namespace glnet::cpu {
namespace {

GLNET_MULTIVERSION void advance(float* __restrict p, float* __restrict m, float* __restrict v,
                                const float* __restrict gradient, int64_t n, const AdamStep& step, float rate,
                                float decay) {
  const AdamStep s = step;
  for (int64_t i = 0; i < n; ++i) {
    const float g = s.scale * gradient[i] + decay * p[i];
    m[i] = s.beta1 * m[i] + s.rest1 * g;
    v[i] = s.beta2 * v[i] + s.rest2 * g * g;
    p[i] -= rate * s.first * m[i] / (std::sqrt(v[i]) * s.second + s.epsilon);
  }
}

}  // namespace

void adam(const Adam& op, const Context& context) {
  const std::vector<Piece> pieces = pieces_of(op.parameters);
  const AdamStep step(op);
  parallel_for(context.threads, static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const auto [n, first, count] = pieces[static_cast<size_t>(i)];
    advance(op.parameters[n].as<float>() + first, op.first_moments[n].as<float>() + first,
            op.second_moments[n].as<float>() + first, op.gradients[n].as<const float>() + first, count, step,
            op.learning_rates[n], op.weight_decays[n]);
  });
}

}  // namespace glnet::cpu
