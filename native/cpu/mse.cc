#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

constexpr int64_t kBlock = 1 << 14;
constexpr int64_t kLanes = 16;

/// Returns the sum of squares of the differences, in as many sums as fill a vector.
GLNET_MULTIVERSION double differ(float* __restrict gradient, const float* a, const float* b, float factor,
                                 int64_t n) {
  double sums[kLanes] = {};
  const auto add = [&](int64_t i, int64_t lane) {
    const float difference = a[i] - b[i];
    gradient[i] = factor * difference;
    sums[lane] += static_cast<double>(difference) * difference;
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
  }
  for (; i < n; ++i) add(i, 0);
  double sum = 0;
  for (const double s : sums) sum += s;
  return sum;
}

int64_t blocks(const Mse& op) {
  return (op.a.size() + kBlock - 1) / kBlock;
}

}  // namespace

void prepare_mse(const Mse& op, Prepare& prepare) {
  // The sums of blocks, added in their order: the same bits for any number of threads.
  prepare.workspace(static_cast<size_t>(blocks(op)) * sizeof(double));
}

void mse(const Mse& op, const Context& context) {
  auto* sums = static_cast<double*>(context.workspace);
  parallel_ranges(context.threads, blocks(op), [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t first = block * kBlock;
      sums[block] = differ(op.gradient.as<float>() + first, op.a.as<const float>() + first,
                           op.b.as<const float>() + first, static_cast<float>(op.factor()),
                           std::min(kBlock, op.a.size() - first));
    }
  });
  double sum = 0;
  for (int64_t block = 0; block < blocks(op); ++block) sum += sums[block];
  *op.loss.as<float>() = static_cast<float>(op.scale * sum / static_cast<double>(op.a.size()));
}

}  // namespace glnet::cpu
