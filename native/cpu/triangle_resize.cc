#include <cmath>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

constexpr int kFraction = 22;
constexpr int32_t kHalf = 1 << (kFraction - 1);

/// The filter along one axis. Output i reads the pixels from first[i] with weights[starts[i]] to before
/// weights[starts[i + 1]].
struct Filter {
  std::vector<int64_t> first, starts{0};
  std::vector<int32_t> weights;

  // In the order of operations that gives Pillow's very bits.
  Filter(int64_t in, int64_t out) {
    const double scale = static_cast<double>(in) / static_cast<double>(out);
    const double support = std::max(scale, 1.0), inverse = 1.0 / support;
    std::vector<double> values;
    for (int64_t i = 0; i < out; ++i) {
      const double centre = (static_cast<double>(i) + 0.5) * scale;
      const int64_t begin = std::max<int64_t>(static_cast<int64_t>(centre - support + 0.5), 0);
      const int64_t end = std::min<int64_t>(static_cast<int64_t>(centre + support + 0.5), in);
      values.clear();
      double total = 0;
      for (int64_t j = begin; j < end; ++j) {
        const double distance = std::abs((static_cast<double>(j) - centre + 0.5) * inverse);
        values.push_back(distance < 1 ? 1 - distance : 0);
        total += values.back();
      }
      for (const double v : values)
        weights.push_back(static_cast<int32_t>(0.5 + v / total * (1 << kFraction)));
      first.push_back(begin);
      starts.push_back(static_cast<int64_t>(weights.size()));
    }
  }
};

[[gnu::always_inline]] inline uint8_t to_byte(int32_t sum) {
  const int32_t v = (sum + kHalf) >> kFraction;
  return static_cast<uint8_t>(v > 255 ? 255 : v);
}

/// A row of pixels, filtered along itself; kChannels of 0 means any number.
template <int kChannels>
GLNET_MULTIVERSION void narrow_row(uint8_t* y, const uint8_t* x, const Filter& filter, int64_t any_channels) {
  const int64_t channels = kChannels ? kChannels : any_channels;
  for (size_t i = 0; i < filter.first.size(); ++i) {
    const int32_t* weights = filter.weights.data() + filter.starts[i];
    const int64_t taps = filter.starts[i + 1] - filter.starts[i];
    const uint8_t* from = x + filter.first[i] * channels;
    if constexpr (kChannels) {
      int32_t sums[kChannels] = {};
      for (int64_t j = 0; j < taps; ++j, from += kChannels) {
        for (int c = 0; c < kChannels; ++c) sums[c] += weights[j] * from[c];
      }
      for (int c = 0; c < kChannels; ++c) *y++ = to_byte(sums[c]);
    } else {
      for (int64_t c = 0; c < channels; ++c) {
        int32_t sum = 0;
        for (int64_t j = 0; j < taps; ++j) sum += weights[j] * from[j * channels + c];
        *y++ = to_byte(sum);
      }
    }
  }
}

GLNET_MULTIVERSION void add_row(int32_t* __restrict sum, const uint8_t* x, int32_t weight, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sum[i] += weight * x[i];
}

GLNET_MULTIVERSION void round_row(uint8_t* __restrict y, const int32_t* sum, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = to_byte(sum[i]);
}

}  // namespace

void prepare_triangle_resize(const TriangleResize& op, Prepare& prepare) {
  // The band's rows, narrowed.
  prepare.workspace(static_cast<size_t>(op.x.dim(0) * op.sum.dim(1) * op.sum.dim(2)));
}

void triangle_resize(const TriangleResize& op, const Context& context) {
  const int64_t rows = op.x.dim(0), channels = op.x.dim(2);
  const int64_t in_row = op.x.dim(1) * channels, out_row = op.sum.dim(1) * channels;
  const Filter across(op.x.dim(1), op.sum.dim(1)), down(op.image_height, op.sum.dim(0));
  auto* narrowed = static_cast<uint8_t*>(context.workspace);
  const auto narrow = channels == 1 ? narrow_row<1> : channels == 3 ? narrow_row<3> : narrow_row<0>;
  parallel_ranges(context.threads, rows, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      narrow(narrowed + row * out_row, op.x.as<const uint8_t>() + row * in_row, across, channels);
    }
  });
  parallel_ranges(context.threads, op.sum.dim(0), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      int32_t* sum = op.sum.as<int32_t>() + i * out_row;
      if (op.row == 0) std::fill(sum, sum + out_row, 0);
      const auto at = static_cast<size_t>(i);
      const int64_t taps = down.starts[at + 1] - down.starts[at];
      const int64_t first = std::max(down.first[at], static_cast<int64_t>(op.row));
      const int64_t last = std::min(down.first[at] + taps, op.row + rows);
      for (int64_t row = first; row < last; ++row) {
        const int32_t weight = down.weights[static_cast<size_t>(down.starts[at] + row - down.first[at])];
        add_row(sum, narrowed + (row - op.row) * out_row, weight, out_row);
      }
      round_row(op.y.as<uint8_t>() + i * out_row, sum, out_row);
    }
  });
}

}  // namespace glnet::cpu
