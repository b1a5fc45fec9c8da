#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/pieces.h"

namespace glnet::cpu {
namespace {

GLNET_MULTIVERSION void descend(float* __restrict p, float* __restrict m, const float* __restrict gradient,
                                int64_t n, float scale, float momentum, bool nesterov, float rate,
                                float decay) {
  for (int64_t i = 0; i < n; ++i) {
    const float g = scale * gradient[i] + decay * p[i];
    m[i] = momentum * m[i] + g;
    p[i] -= rate * (nesterov ? g + momentum * m[i] : m[i]);
  }
}

}  // namespace

void sgd(const Sgd& op, const Context& context) {
  const std::vector<Piece> pieces = pieces_of(op.parameters);
  parallel_for(context.threads, static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const auto [n, first, count] = pieces[static_cast<size_t>(i)];
    descend(op.parameters[n].as<float>() + first, op.momenta[n].as<float>() + first,
            op.gradients[n].as<const float>() + first, count, op.gradient_scale, op.momentum, op.nesterov,
            op.learning_rates[n], op.weight_decays[n]);
  });
}

}  // namespace glnet::cpu
