#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

GLNET_MULTIVERSION void add_to(float* __restrict sum, const float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sum[i] += x[i];
}

}  // namespace

void accumulate(const Accumulate& op, const Context& context) {
  parallel_ranges(context.threads, op.sum.size(), [&](int64_t begin, int64_t end) {
    add_to(op.sum.as<float>() + begin, op.x.as<const float>() + begin, end - begin);
  });
}

}  // namespace glnet::cpu
