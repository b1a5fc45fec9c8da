#include "cpu/channel_sums.h"
#include "cpu/kernels.h"

namespace glnet::cpu {
namespace {

constexpr int64_t kLanes = ChannelSums::kLanes;

/// sums: [channels]
GLNET_MULTIVERSION void sum_block(const float* x, int64_t pixels, int64_t channels, double* sums) {
  for (int64_t first = 0; first < channels; first += kLanes) {
    const int64_t n = std::min(kLanes, channels - first);
    double sum[kLanes] = {};
    const float* pixel = x + first;
    int64_t i = 0;
    for (; i + 4 <= pixels; i += 4, pixel += 4 * channels) {
      const float *a = pixel, *b = a + channels, *c = b + channels, *d = c + channels;
      for (int64_t k = 0; k < n; ++k) {
        sum[k] += (static_cast<double>(a[k]) + static_cast<double>(b[k])) +
                  (static_cast<double>(c[k]) + static_cast<double>(d[k]));
      }
    }
    for (; i < pixels; ++i, pixel += channels) {
      for (int64_t k = 0; k < n; ++k) sum[k] += static_cast<double>(pixel[k]);
    }
    std::copy_n(sum, n, sums + first);
  }
}

ChannelSums sums_of(const ChannelSum& op) {
  return {op.pixels(), op.x.dim(3), 1};
}

}  // namespace

void prepare_channel_sum(const ChannelSum& op, Prepare& prepare) {
  prepare.workspace(sums_of(op).bytes());
}

void channel_sum(const ChannelSum& op, const Context& context) {
  ChannelSums sums = sums_of(op);
  sums.workspace = static_cast<double*>(context.workspace);
  const auto* x = op.x.as<const float>();
  sums.each_block(context.threads, [&](int64_t first, int64_t pixels, double* some) {
    sum_block(x + first * sums.channels, pixels, sums.channels, some);
  });
  const std::vector<double> totals = sums.totals();
  for (size_t c = 0; c < totals.size(); ++c) {
    float& sum = op.sum.as<float>()[c];
    sum = static_cast<float>(sum + totals[c]);
  }
}

}  // namespace glnet::cpu
