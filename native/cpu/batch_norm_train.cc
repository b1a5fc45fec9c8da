#include <cmath>
#include <vector>

#include "cpu/channel_sums.h"
#include "cpu/kernels.h"

namespace glnet::cpu {
namespace {

constexpr int64_t kLanes = ChannelSums::kLanes;

/// sums: [2, channels]: the sums of a block's values, and of the squares of their distances to their mean.
/// The second look at the values finds them in the cache.
GLNET_MULTIVERSION void block_moments(const float* x, int64_t pixels, int64_t channels, double* sums) {
  for (int64_t first = 0; first < channels; first += kLanes) {
    const int64_t n = std::min(kLanes, channels - first);
    double sum[kLanes] = {}, squares[kLanes] = {};
    float mean[kLanes];
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
    const auto count = static_cast<double>(pixels);
    for (int64_t k = 0; k < n; ++k) mean[k] = static_cast<float>(sum[k] / count);
    pixel = x + first;
    for (i = 0; i + 4 <= pixels; i += 4, pixel += 4 * channels) {
      const float *a = pixel, *b = a + channels, *c = b + channels, *d = c + channels;
      for (int64_t k = 0; k < n; ++k) {
        const float p = a[k] - mean[k], q = b[k] - mean[k], r = c[k] - mean[k], s = d[k] - mean[k];
        squares[k] += static_cast<double>((p * p + q * q) + (r * r + s * s));
      }
    }
    for (; i < pixels; ++i, pixel += channels) {
      for (int64_t k = 0; k < n; ++k) {
        const float p = pixel[k] - mean[k];
        squares[k] += static_cast<double>(p * p);
      }
    }
    for (int64_t k = 0; k < n; ++k) {
      // From the rounded mean to the mean itself.
      const double off = mean[k] - sum[k] / count;
      sums[first + k] = sum[k];
      sums[channels + first + k] = squares[k] - count * off * off;
    }
  }
}

/// y = relu((x - mean) * scale + shift + residual). The difference comes first: a mean that is large beside
/// the deviation loses nothing.
template <bool kResidual, bool kRelu>
GLNET_MULTIVERSION void normalise(float* __restrict y, const float* x, const float* residual,
                                  const float* mean, const float* scale, const float* shift, int64_t pixels,
                                  int64_t channels) {
  for (int64_t i = 0; i < pixels; ++i) {
    for (int64_t c = 0; c < channels; ++c) {
      float v = (x[c] - mean[c]) * scale[c] + shift[c];
      if constexpr (kResidual) v += residual[c];
      y[c] = kRelu && v < 0 ? 0.0f : v;
    }
    x += channels;
    y += channels;
    if constexpr (kResidual) residual += channels;
  }
}

ChannelSums sums_of(const BatchNormTrain& op) {
  return {op.pixels(), op.x.dim(3), 2};
}

}  // namespace

void prepare_batch_norm_train(const BatchNormTrain& op, Prepare& prepare) {
  prepare.workspace(sums_of(op).bytes());
}

void batch_norm_train(const BatchNormTrain& op, const Context& context) {
  ChannelSums sums = sums_of(op);
  sums.workspace = static_cast<double*>(context.workspace);
  const int64_t channels = sums.channels;
  const auto* x = op.x.as<const float>();
  sums.each_block(context.threads, [&](int64_t first, int64_t pixels, double* some) {
    block_moments(x + first * channels, pixels, channels, some);
  });

  std::vector<double> totals = sums.totals();
  const auto n = static_cast<double>(sums.pixels);
  double *mean = totals.data(), *squares = mean + channels;
  for (int64_t c = 0; c < channels; ++c) mean[c] /= n;
  // From the blocks' means to the batch's.
  for (int64_t i = 0; i < sums.blocks(); ++i) {
    const auto count = static_cast<double>(sums.pixels_of(i));
    const double* sum = sums.sums_of(i);
    for (int64_t c = 0; c < channels; ++c) {
      const double off = sum[c] / count - mean[c];
      squares[c] += count * off * off;
    }
  }

  std::vector<float> scale(static_cast<size_t>(channels)), shift(scale.size());
  for (int64_t c = 0; c < channels; ++c) {
    const auto k = static_cast<size_t>(c);
    const double inverse = 1 / std::sqrt(squares[c] / n + op.epsilon), s = op.weight.as<float>()[c] * inverse;
    const auto rounded = static_cast<float>(mean[c]);
    op.mean.as<float>()[c] = rounded;
    op.inverse_deviation.as<float>()[c] = static_cast<float>(inverse);
    scale[k] = static_cast<float>(s);
    shift[k] = static_cast<float>(op.bias.as<float>()[c] + (rounded - mean[c]) * s);
    if (op.momentum == 0) continue;
    const auto approach = [&](float& running, double value) {
      running = static_cast<float>(running + op.momentum * (value - running));
    };
    approach(op.running_mean.as<float>()[c], mean[c]);
    approach(op.running_var.as<float>()[c], squares[c] / (n - 1));
  }

  const auto run = op.residual ? (op.relu ? normalise<true, true> : normalise<true, false>)
                               : (op.relu ? normalise<false, true> : normalise<false, false>);
  sums.each_block_back(context.threads, [&](int64_t first, int64_t pixels) {
    const int64_t at = first * channels;
    run(op.y.as<float>() + at, x + at, op.residual ? op.residual.as<const float>() + at : nullptr,
        op.mean.as<const float>(), scale.data(), shift.data(), pixels, channels);
  });
}

}  // namespace glnet::cpu
