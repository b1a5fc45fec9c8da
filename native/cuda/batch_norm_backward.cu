// batch_norm_backward: the gradients of batch_norm_train with respect to x, weight and bias.
//
// Three kernels. The first sums dy and dy (x - mean) over the pixels (channel_sums.cuh), in double: four slow
// operations a value on cards for games, which still take less time than its bytes. The second, a warp a
// channel, adds the parts to the gradients of weight and bias and makes three factors a channel. The third is
// elementwise, four channels of a pixel a thread where the channels are a multiple of four, else one.
//
// Moves dy, x and, with relu, y in twice, and dx out once. Floor, for 6 x 127x127x256 in float32, 495 MB:
// 148 us on an H100 (3.35 TB/s), 491 us on an RTX 4090 (1.01 TB/s); with relu 694 MB, 207 us and 687 us.
// Left: a bit a value for where relu gave 0, in place of y.
#include "cuda/channel_sums.cuh"

namespace glnet::cuda {
namespace {

/// What of dy counts: nothing where a fused relu gave 0. y may be null.
__device__ __forceinline__ float counted(float dy, const float* y, int64_t i) {
  return y && y[i] <= 0 ? 0.0f : dy;
}

struct Terms {
  const float *dy, *x, *y, *mean;

  __device__ void operator()(double (&totals)[2], int64_t c, int64_t at, int64_t step, int count) const {
    const float middle = mean[c];
    UNROLL for (int j = 0; j < kRun; ++j) {
      if (j >= count) break;
      const int64_t i = at + j * step;
      const float g = counted(dy[i], y, i);
      totals[0] += static_cast<double>(g);
      totals[1] += static_cast<double>(g * (x[i] - middle));
    }
  }
};

/// dx = dy * scale + (x - mean) * slope + shift
struct Factors {
  float *scale, *slope, *shift;
};

/// A warp a channel.
__global__ void factors_kernel(const double* sums, int64_t pixels, int64_t channels, int64_t parts,
                               const float* weight, const float* inverse_deviation, float* dweight,
                               float* dbias, Factors factors) {
  const auto n = static_cast<double>(pixels);
  for (int64_t c = first_item() / 32; c < channels; c += item_step() / 32) {
    const double sum = sum_of_parts(sums, c, parts), product = sum_of_parts(sums, channels + c, parts);
    if (threadIdx.x % 32 != 0) continue;
    const double inverse = inverse_deviation[c], scale = weight[c] * inverse;
    factors.scale[c] = static_cast<float>(scale);
    factors.slope[c] = static_cast<float>(-scale * inverse * inverse * product / n);
    factors.shift[c] = static_cast<float>(-scale * sum / n);
    dweight[c] = static_cast<float>(dweight[c] + product * inverse);
    dbias[c] = static_cast<float>(dbias[c] + sum);
  }
}

/// N elements of neighbouring channels at a time. y may be null.
template <int N>
__global__ void combine_kernel(const float* dy, const float* x, const float* y, const float* mean,
                               Factors factors, float* dx, int64_t n, int64_t channels) {
  struct alignas(N * sizeof(float)) Some {
    float values[N];
  };
  for (int64_t i = first_item(); i < n / N; i += item_step()) {
    const int64_t c = i * N % channels;
    const Some g = reinterpret_cast<const Some*>(dy)[i], in = reinterpret_cast<const Some*>(x)[i];
    Some gate, out;
    if (y) gate = reinterpret_cast<const Some*>(y)[i];
    for (int j = 0; j < N; ++j) {
      out.values[j] = counted(g.values[j], y ? gate.values : nullptr, j) * factors.scale[c + j] +
                      ((in.values[j] - mean[c + j]) * factors.slope[c + j] + factors.shift[c + j]);
    }
    reinterpret_cast<Some*>(dx)[i] = out;
  }
}

ChannelSums sums_of(const BatchNormBackward& op) {
  return {op.pixels(), op.dy.dim(3)};
}

}  // namespace

void prepare_batch_norm_backward(const BatchNormBackward& op, Prepare& prepare) {
  const ChannelSums s = sums_of(op);
  prepare.workspace(s.bytes(2) + 3 * static_cast<size_t>(s.channels) * sizeof(float));
}

void batch_norm_backward(const BatchNormBackward& op, const Context& context) {
  const ChannelSums s = sums_of(op);
  const int64_t n = op.dy.size();
  auto* sums = static_cast<double*>(context.workspace);
  auto* scale = reinterpret_cast<float*>(sums + 2 * s.channels * s.parts());
  const Factors factors{scale, scale + s.channels, scale + 2 * s.channels};
  const Terms terms{op.dy.as<const float>(), op.x.as<const float>(), op.y.as<const float>(),
                    op.mean.as<const float>()};
  launch(part_sums_kernel<2, Terms>, s.grid(), kThreads, 0, stream_of(context), terms, s.pixels, s.channels,
         s.part(), sums);
  launch(factors_kernel, s.finish_blocks(), kThreads, 0, stream_of(context), sums, s.pixels, s.channels,
         s.parts(), op.weight.as<const float>(), op.inverse_deviation.as<const float>(),
         op.dweight.as<float>(), op.dbias.as<float>(), factors);
  const bool packed = s.channels % 4 == 0;
  launch(packed ? combine_kernel<4> : combine_kernel<1>, blocks_for(packed ? n / 4 : n), kThreads, 0,
         stream_of(context), terms.dy, terms.x, terms.y, terms.mean, factors, op.dx.as<float>(), n,
         s.channels);
}

}  // namespace glnet::cuda
