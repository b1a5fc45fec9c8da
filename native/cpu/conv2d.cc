#include <cstring>
#include <iterator>
#include <limits>
#include <mutex>
#include <vector>

#include "cpu/aggregate_conv.h"
#include "cpu/convolution.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

/// Whether aggregate_conv computes the same for less: with few outputs; see best_way.
bool as_aggregate(const Conv2d& op, AggregateConv& aggregate) {
  const int64_t kernel = op.weight.dim(2);
  if (op.overwrite || op.pool || op.stride != 1 || op.weight.dim(3) != kernel || kernel % 2 == 0 ||
      op.padding != kernel / 2)
    return false;
  aggregate.sources.resize(1);
  aggregate.sources[0].x = op.x;
  if (best_way(tap_cost(aggregate.sources[0]), op.weight) == Way::plain) return false;
  aggregate.weight = op.weight;
  aggregate.bias = op.bias;
  aggregate.addend = op.residual;
  aggregate.relu = op.relu;
  aggregate.y = op.y;
  return true;
}

std::shared_ptr<const Convolution> convolution_of(const Conv2d& op, int threads) {
  return Convolution::get({.batch = op.x.dim(0),
                           .height = op.x.dim(1),
                           .width = op.x.dim(2),
                           .channels = op.x.dim(3),
                           .outputs = op.weight.dim(0),
                           .kernel_height = op.weight.dim(2),
                           .kernel_width = op.weight.dim(3),
                           .stride = op.stride,
                           .padding_height = op.padding,
                           .padding_width = op.padding,
                           .input = op.x.dtype,
                           .output = op.pool ? DType::float32 : op.y.dtype,
                           .bias = op.bias && !op.pool,
                           .accumulate = op.overwrite,
                           .residual = op.residual && !op.overwrite,
                           .relu = op.relu && !op.pool,
                           .by_rows = op.pool,
                           .threads = threads});
}

/// A row of y from up to three rows of sums [width, channels], each given at least once. Bias, ReLU and
/// rounding come last: they keep the order. NaN counts as nothing. With kJoins y has what other rows have
/// made of it.
template <class T, bool kJoins>
GLNET_MULTIVERSION void pool_row(T* __restrict y, const float* const (&rows)[3], int64_t width,
                                 int64_t channels, const float* bias) {
  for (int64_t column = 0; column < width; column += 2, y += channels) {
    const int64_t left = std::max<int64_t>(column - 1, 0) * channels, middle = column * channels;
    const int64_t right = std::min(column + 1, width - 1) * channels;
    const float* const v[9] = {rows[0] + left, rows[0] + middle, rows[0] + right,
                               rows[1] + left, rows[1] + middle, rows[1] + right,
                               rows[2] + left, rows[2] + middle, rows[2] + right};
    for (int64_t c = 0; c < channels; ++c) {
      float largest = -std::numeric_limits<float>::infinity();
      for (int i = 0; i < 9; ++i) largest = v[i][c] > largest ? v[i][c] : largest;
      largest += bias[c];
      largest = largest > 0 ? largest : 0;
      if constexpr (kJoins) {
        const auto before = static_cast<float>(y[c]);
        largest = before > largest ? before : largest;
      }
      y[c] = T(largest);
    }
  }
}

/// Pools the rows of a convolution while they are in the cache of the thread that made them. A row of y that
/// needs rows of several calls is made of what comes, in whatever order.
class Pooling {
 public:
  /// `begun` has room for a byte of each row of y.
  Pooling(const Conv2d& op, uint8_t* begun)
      : op_(op),
        height_(op.unpooled().y.dim(1)),
        width_(op.unpooled().y.dim(2)),
        bias_(static_cast<size_t>(op.y.dim(3))),
        begun_(begun) {
    std::memset(begun, 0, bytes(op));
    if (op.bias) std::copy_n(op.bias.as<float>(), bias_.size(), bias_.data());
  }

  static size_t bytes(const Conv2d& op) { return static_cast<size_t>(op.y.dim(0) * op.y.dim(1)); }

  /// As Convolution::TakeRows.
  void take(int64_t begin, int64_t end, const float* sums) {
    const int64_t line = width_ * op_.y.dim(3);
    while (begin < end) {
      const int64_t map = begin / height_, top = begin % height_;
      const int64_t bottom = std::min(end - map * height_, height_);
      take_map(map, top, bottom, sums);
      sums += (bottom - top) * line;
      begin += bottom - top;
    }
  }

 private:
  /// Rows `top` to before `bottom` of a map.
  void take_map(int64_t map, int64_t top, int64_t bottom, const float* sums) {
    const int64_t channels = op_.y.dim(3), height = op_.y.dim(1), line = op_.y.dim(2) * channels;
    for (int64_t i = top / 2; i <= std::min(bottom / 2, height - 1); ++i) {
      const float* rows[3];
      for (int64_t k = 0; k < 3; ++k)
        rows[k] = sums + (std::clamp(2 * i - 1 + k, top, bottom - 1) - top) * width_ * channels;
      const bool whole = std::max<int64_t>(2 * i - 1, 0) >= top && std::min(2 * i + 2, height_) <= bottom;
      const int64_t at = map * height + i;
      std::unique_lock lock(mutexes_[at % std::size(mutexes_)], std::defer_lock);
      if (!whole) lock.lock();
      with_type(op_.kName, op_.y.dtype, [&](auto t) {
        using T = decltype(t);
        (begun_[at] ? pool_row<T, true> : pool_row<T, false>)(op_.y.as<T>() + at * line, rows, width_,
                                                              channels, bias_.data());
      });
      begun_[at] = 1;
    }
  }

  const Conv2d& op_;
  int64_t height_, width_;  ///< of the convolution
  std::vector<float> bias_;
  uint8_t* begun_;  ///< whether something is in a row of y
  std::mutex mutexes_[16];
};

}  // namespace

void prepare_conv2d(const Conv2d& op, Prepare& prepare) {
  AggregateConv aggregate;
  if (as_aggregate(op, aggregate)) return prepare_aggregate_conv(aggregate, prepare);
  const auto convolution = convolution_of(op, prepare.threads());
  prepare.workspace(convolution->workspace_bytes() + (op.pool ? Pooling::bytes(op) : 0));
  prepare.pack(op.weight, convolution->layout(), convolution->packed_bytes(),
               [convolution](const Context&, const void* from, void* to) { convolution->pack(from, to); });
}

void conv2d(const Conv2d& op, const Context& context) {
  AggregateConv aggregate;
  if (as_aggregate(op, aggregate)) return aggregate_conv(aggregate, context);
  const auto convolution = convolution_of(op, context.threads);
  if (op.pool) {
    Pooling pooling(op, static_cast<uint8_t*>(context.workspace) + convolution->workspace_bytes());
    return convolution->run_rows(
        op.x.data, context.packed[0], context.workspace,
        [&](int64_t begin, int64_t end, const float* sums) { pooling.take(begin, end, sums); });
  }
  convolution->run(op.x.data, context.packed[0], op.bias.as<float>(), op.residual.data, op.y.data,
                   context.workspace);
}

}  // namespace glnet::cpu
