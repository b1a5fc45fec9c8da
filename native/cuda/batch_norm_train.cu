// batch_norm_train: y = relu((x - mean) / sqrt(variance + epsilon) * weight + bias + residual), with the mean
// and variance of the batch, and running averages of both.
//
// Three kernels. The first goes through the pixels in parts (channel_sums.cuh): a thread holds the values of
// a run in registers, so that it has their mean before it takes the squares of their distances to it, and
// merges runs in double by the formula of Chan, Golub and LeVeque (1979); no value is read twice, and nothing
// cancels, wherever the mean lies. The second, a warp a channel, merges the parts and makes the statistics, a
// scale and a shift. The third is elementwise, four channels of a pixel a thread where the channels are a
// multiple of four, else one; the mean is subtracted first, so that one that is large beside the deviation
// loses nothing.
//
// Moves each value in twice and out once, and the residual in. Floor, for 6 x 127x127x256 in float32, 297 MB:
// 89 us on an H100 (3.35 TB/s), 294 us on an RTX 4090 (1.01 TB/s); with the residual 396 MB, 118 us and
// 392 us. About two operations in double a value: hidden, on cards for games just so. Considered: a kernel
// for the mean and one for the variance, simpler, which reads x once more. Left: reading what is still in the
// L2 cache first in the third kernel.
#include "cuda/channel_sums.cuh"

namespace glnet::cuda {
namespace {

/// 1 / n, n a whole number above 0, to the last bits: a division in double takes several times as long.
__device__ __forceinline__ double reciprocal(double n) {
  const double r = 1 / static_cast<float>(n);
  return r * (2 - n * r);
}

/// How many of `length` pixels fall to the one of `ways` at `index`, if they go in turn.
__device__ __forceinline__ double share_of(int64_t length, int64_t index, int64_t ways) {
  return static_cast<double>((length - index + ways - 1) / ways);
}

/// The squares about the mean of all, from `squares` about the mean of some values with this sum.
__device__ __forceinline__ double about(double mean, double squares, double sum, double count) {
  const double off = sum / count - mean;
  return squares + count * off * off;
}

/// sums, squares: [channels, parts]; squares are about the part's mean.
__global__ void __launch_bounds__(kThreads) moments_kernel(const float* x, int64_t pixels, int64_t channels,
                                                           int64_t part, double* sums, double* squares) {
  SHARED_ARRAY(double, row_sums, kThreads);
  SHARED_ARRAY(double, row_squares, kThreads);
  double sum = 0, square = 0, n = 0, inverse = 0;  // inverse: 1 / n
  each_run(pixels, channels, part, [&](int64_t at, int64_t step, int count) {
    // Distances to the first value, which cancel no more than the values themselves; an infinity stays one.
    float base = x[at], distances[kRun], total = 0, spread = 0;
    if (!(fabsf(base) < INFINITY)) base = 0;
    UNROLL for (int j = 0; j < kRun; ++j) {
      distances[j] = j < count ? x[at + j * step] - base : 0.0f;
      total += distances[j];
    }
    const float middle = total / static_cast<float>(count);
    UNROLL for (int j = 0; j < kRun; ++j) {
      const float d = distances[j] - middle;
      if (j < count) spread += d * d;
    }
    const double mean = static_cast<double>(base) + middle, off = mean - sum * inverse;
    inverse = reciprocal(n + count);
    square += spread + off * off * (n * count * inverse);
    sum += mean * count;
    n += count;
  });
  row_sums[threadIdx.x] = sum;
  row_squares[threadIdx.x] = square;
  __syncthreads();
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kLanes + threadIdx.x;
  if (threadIdx.x >= kLanes || c >= channels) return;
  const int64_t length = std::min(part, pixels - blockIdx.y * part);
  sum = square = 0;
  for (int row = 0; row < kRows; ++row) {
    const double some = row_sums[row * kLanes + threadIdx.x];
    sum += some;
  }
  const double mean = sum / static_cast<double>(length);
  for (int row = 0; row < kRows && row < length; ++row) {
    const double row_sum = row_sums[row * kLanes + threadIdx.x];
    const double row_square = row_squares[row * kLanes + threadIdx.x];
    square += about(mean, row_square, row_sum, share_of(length, row, kRows));
  }
  sums[c * gridDim.y + blockIdx.y] = sum;
  squares[c * gridDim.y + blockIdx.y] = square;
}

struct Statistics {
  const float *weight, *bias;
  float *running_mean, *running_var, *mean, *inverse_deviation;
  float *scale, *shift;
  float epsilon, momentum;
};

/// A warp a channel.
__global__ void statistics_kernel(const double* sums, const double* squares, int64_t pixels, int64_t channels,
                                  int64_t part, int64_t parts, Statistics s) {
  const auto n = static_cast<double>(pixels);
  for (int64_t c = first_item() / 32; c < channels; c += item_step() / 32) {
    const double mean = sum_of_parts(sums, c, parts) / n;
    double square = 0;
    for (int64_t i = threadIdx.x % 32; i < parts; i += 32) {
      const auto count = static_cast<double>(std::min(part, pixels - i * part));
      square += about(mean, squares[c * parts + i], sums[c * parts + i], count);
    }
    square = warp_reduce(square, Plus{});
    if (threadIdx.x % 32 != 0) continue;
    const double inverse = 1 / sqrt(square / n + s.epsilon), scale = s.weight[c] * inverse;
    const auto rounded = static_cast<float>(mean);
    s.mean[c] = rounded;
    s.inverse_deviation[c] = static_cast<float>(inverse);
    s.scale[c] = static_cast<float>(scale);
    s.shift[c] = static_cast<float>(s.bias[c] + (rounded - mean) * scale);
    if (s.momentum == 0) continue;
    s.running_mean[c] = static_cast<float>(s.running_mean[c] + s.momentum * (mean - s.running_mean[c]));
    s.running_var[c] =
        static_cast<float>(s.running_var[c] + s.momentum * (square / (n - 1) - s.running_var[c]));
  }
}

/// N elements of neighbouring channels at a time. residual may be null.
template <int N>
__global__ void normalise_kernel(const float* x, const float* residual, const float* mean, const float* scale,
                                 const float* shift, float* y, int64_t n, int64_t channels, bool relu) {
  struct alignas(N * sizeof(float)) Some {
    float values[N];
  };
  for (int64_t i = first_item(); i < n / N; i += item_step()) {
    const int64_t c = i * N % channels;
    const Some in = reinterpret_cast<const Some*>(x)[i];
    Some more{}, out;
    if (residual) more = reinterpret_cast<const Some*>(residual)[i];
    for (int j = 0; j < N; ++j) {
      float v = (in.values[j] - mean[c + j]) * scale[c + j] + shift[c + j];
      if (residual) v += more.values[j];
      out.values[j] = relu && v < 0 ? 0.0f : v;
    }
    reinterpret_cast<Some*>(y)[i] = out;
  }
}

ChannelSums sums_of(const BatchNormTrain& op) {
  return {op.pixels(), op.x.dim(3)};
}

}  // namespace

void prepare_batch_norm_train(const BatchNormTrain& op, Prepare& prepare) {
  const ChannelSums s = sums_of(op);
  prepare.workspace(s.bytes(2) + 2 * static_cast<size_t>(s.channels) * sizeof(float));
}

void batch_norm_train(const BatchNormTrain& op, const Context& context) {
  const ChannelSums s = sums_of(op);
  const int64_t n = op.x.size();
  auto* sums = static_cast<double*>(context.workspace);
  double* squares = sums + s.channels * s.parts();
  auto* scale = reinterpret_cast<float*>(squares + s.channels * s.parts());
  float* shift = scale + s.channels;
  const auto* x = op.x.as<const float>();
  launch(moments_kernel, s.grid(), kThreads, 0, stream_of(context), x, s.pixels, s.channels, s.part(), sums,
         squares);
  launch(statistics_kernel, s.finish_blocks(), kThreads, 0, stream_of(context), sums, squares, s.pixels,
         s.channels, s.part(), s.parts(),
         Statistics{op.weight.as<const float>(), op.bias.as<const float>(), op.running_mean.as<float>(),
                    op.running_var.as<float>(), op.mean.as<float>(), op.inverse_deviation.as<float>(), scale,
                    shift, op.epsilon, op.momentum});
  const bool packed = s.channels % 4 == 0;
  launch(packed ? normalise_kernel<4> : normalise_kernel<1>, blocks_for(packed ? n / 4 : n), kThreads, 0,
         stream_of(context), x, op.residual.as<const float>(), op.mean.as<const float>(), scale, shift,
         op.y.as<float>(), n, s.channels, op.relu);
}

}  // namespace glnet::cuda
