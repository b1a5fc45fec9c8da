#include <bit>
#include <vector>

#include "cpu/channel_sums.h"
#include "cpu/kernels.h"

namespace glnet::cpu {
namespace {

constexpr int64_t kLanes = ChannelSums::kLanes;

/// What of dy counts: relu may have been fused. By a mask, because GCC makes branches of a choice of zero.
template <bool kRelu>
[[gnu::always_inline]] inline float counted(const float* dy, const float* y, int64_t i) {
  if constexpr (!kRelu) return dy[i];
  const uint32_t mask = uint32_t{y[i] <= 0} - 1;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(dy[i]) & mask);
}

/// sums: [2, channels]: the sums of dy, and of dy (x - mean).
template <bool kRelu>
GLNET_MULTIVERSION void block_sums(const float* dy, const float* x, const float* y, const float* mean,
                                   int64_t pixels, int64_t channels, double* sums) {
  for (int64_t first = 0; first < channels; first += kLanes) {
    const int64_t n = std::min(kLanes, channels - first);
    double sum[kLanes] = {}, product[kLanes] = {};
    int64_t i = 0;
    for (; i + 2 <= pixels; i += 2) {
      const int64_t a = i * channels + first, b = a + channels;
      for (int64_t k = 0; k < n; ++k) {
        const float m = mean[first + k];
        const double g = counted<kRelu>(dy, y, a + k), h = counted<kRelu>(dy, y, b + k);
        sum[k] += g + h;
        product[k] += g * (x[a + k] - m) + h * (x[b + k] - m);
      }
    }
    for (; i < pixels; ++i) {
      const int64_t a = i * channels + first;
      for (int64_t k = 0; k < n; ++k) {
        const double g = counted<kRelu>(dy, y, a + k);
        sum[k] += g;
        product[k] += g * (x[a + k] - mean[first + k]);
      }
    }
    std::copy_n(sum, n, sums + first);
    std::copy_n(product, n, sums + channels + first);
  }
}

/// dx = dy * scale + (x - mean) * slope + shift
template <bool kRelu>
GLNET_MULTIVERSION void combine(float* __restrict dx, const float* dy, const float* x, const float* y,
                                const float* mean, const float* scale, const float* slope, const float* shift,
                                int64_t pixels, int64_t channels) {
  for (int64_t i = 0; i < pixels; ++i) {
    for (int64_t c = 0; c < channels; ++c) {
      dx[c] = counted<kRelu>(dy, y, c) * scale[c] + ((x[c] - mean[c]) * slope[c] + shift[c]);
    }
    dx += channels;
    dy += channels;
    x += channels;
    if constexpr (kRelu) y += channels;
  }
}

ChannelSums sums_of(const BatchNormBackward& op) {
  return {op.pixels(), op.dy.dim(3), 2};
}

}  // namespace

void prepare_batch_norm_backward(const BatchNormBackward& op, Prepare& prepare) {
  prepare.workspace(sums_of(op).bytes());
}

void batch_norm_backward(const BatchNormBackward& op, const Context& context) {
  ChannelSums sums = sums_of(op);
  sums.workspace = static_cast<double*>(context.workspace);
  const int64_t channels = sums.channels;
  const auto *dy = op.dy.as<const float>(), *x = op.x.as<const float>(), *y = op.y.as<const float>();
  const auto* mean = op.mean.as<const float>();
  const auto y_at = [&](int64_t at) { return y ? y + at : nullptr; };
  sums.each_block(context.threads, [&](int64_t first, int64_t pixels, double* some) {
    const int64_t at = first * channels;
    (y ? block_sums<true> : block_sums<false>)(dy + at, x + at, y_at(at), mean, pixels, channels, some);
  });

  const std::vector<double> totals = sums.totals();
  const auto n = static_cast<double>(sums.pixels);
  std::vector<float> scale(static_cast<size_t>(channels)), slope(scale.size()), shift(scale.size());
  for (size_t c = 0; c < scale.size(); ++c) {
    const double inverse = op.inverse_deviation.as<float>()[c], s = op.weight.as<float>()[c] * inverse;
    const double sum = totals[c], product = totals[scale.size() + c];
    scale[c] = static_cast<float>(s);
    slope[c] = static_cast<float>(-s * inverse * inverse * product / n);
    shift[c] = static_cast<float>(-s * sum / n);
    float &dweight = op.dweight.as<float>()[c], &dbias = op.dbias.as<float>()[c];
    dweight = static_cast<float>(dweight + product * inverse);
    dbias = static_cast<float>(dbias + sum);
  }

  sums.each_block_back(context.threads, [&](int64_t first, int64_t pixels) {
    const int64_t at = first * channels;
    (y ? combine<true> : combine<false>)(op.dx.as<float>() + at, dy + at, x + at, y_at(at), mean,
                                         scale.data(), slope.data(), shift.data(), pixels, channels);
  });
}

}  // namespace glnet::cpu
