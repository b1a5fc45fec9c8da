#include "cpu/adjoint.h"

#include <omp.h>

#include <cstring>

#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

typedef float Vector __attribute__((vector_size(4 * kLanes)));

/// Terms of one position, from the first of the taps that are summed together.
struct Terms {
  const float* base;
  int64_t stride;
  const int32_t* targets;
  const float* weights;
  int64_t taps;  ///< from one target's weights to the next's
  int64_t count;
};

// Always inlined, so that it is compiled for the instruction set of its caller.
template <int kTaps, int kVectors>
[[gnu::always_inline]] inline void sum_block(const Terms& terms, int64_t at, float* out, int64_t tap_stride) {
  Vector sums[kTaps][kVectors] = {};
  for (int64_t e = 0; e < terms.count; ++e) {
    const float* from = terms.base + terms.targets[e] * terms.stride + at;
    const float* weights = terms.weights + e * terms.taps;
    for (int v = 0; v < kVectors; ++v) {
      Vector values;
      std::memcpy(&values, from + v * kLanes, sizeof values);
      for (int t = 0; t < kTaps; ++t) sums[t][v] += weights[t] * values;
    }
  }
  for (int t = 0; t < kTaps; ++t) {
    for (int v = 0; v < kVectors; ++v) {
      std::memcpy(out + t * tap_stride + at + v * kLanes, &sums[t][v], sizeof(Vector));
    }
  }
}

/// Fewer elements than a vector has.
template <int kTaps>
[[gnu::always_inline]] inline void sum_few(const Terms& terms, int64_t n, float* out, int64_t tap_stride) {
  Vector sums[kTaps] = {};
  for (int64_t e = 0; e < terms.count; ++e) {
    const float* from = terms.base + terms.targets[e] * terms.stride;
    Vector values{};
    for (int64_t i = 0; i < n; ++i) values[i] = from[i];
    for (int t = 0; t < kTaps; ++t) sums[t] += terms.weights[e * terms.taps + t] * values;
  }
  for (int t = 0; t < kTaps; ++t) {
    for (int64_t i = 0; i < n; ++i) out[t * tap_stride + i] = sums[t][i];
  }
}

template <int kTaps>
GLNET_MULTIVERSION void sum(const Terms& terms, int64_t n, float* out, int64_t tap_stride) {
  if (n < kLanes) return sum_few<kTaps>(terms, n, out, tap_stride);
  constexpr int64_t kMost = 4;
  int64_t i = 0;
  for (; i + kMost * kLanes <= n; i += kMost * kLanes) sum_block<kTaps, kMost>(terms, i, out, tap_stride);
  for (; i + kLanes <= n; i += kLanes) sum_block<kTaps, 1>(terms, i, out, tap_stride);
  // The last vector, some of it once more.
  if (i < n) sum_block<kTaps, 1>(terms, n - kLanes, out, tap_stride);
}

/// out[t * tap_stride + c] = sum over the terms of position i of weight[t] * base[target * stride + c], for c
/// of 0 ... n.
void sum_taps(const TapTerms& terms, int64_t i, const float* base, int64_t stride, int64_t n, float* out,
              int64_t tap_stride) {
  const int64_t begin = terms.begin(i);
  Terms some{
      base,       stride,        terms.targets.data() + begin, terms.weights.data() + begin * terms.taps,
      terms.taps, terms.count(i)};
  constexpr int64_t kMost = 3;
  for (int64_t t = 0; t < terms.taps; t += kMost) {
    switch (std::min(kMost, terms.taps - t)) {
      case 1:
        sum<1>(some, n, out, tap_stride);
        break;
      case 2:
        sum<2>(some, n, out, tap_stride);
        break;
      default:
        sum<3>(some, n, out, tap_stride);
    }
    some.weights += kMost;
    out += kMost * tap_stride;
  }
}

}  // namespace

TapTerms::TapTerms(const AxisSampling& sampling, int64_t length, int64_t taps, int64_t copies) : taps(taps) {
  const int64_t targets_length = sampling.outputs();
  const AxisSampling adjoint = sampling.transposed(length);
  for (int64_t i = 0; i < length; ++i) {
    const auto *begin = adjoint.begin(i), *end = adjoint.end(i);
    // Tap t of target position p reads position p + t - taps / 2.
    const int64_t first = begin == end ? 0 : std::max<int64_t>(begin->index - taps / 2, 0);
    const int64_t last = begin == end ? 0 : std::min(end[-1].index + taps / 2 + 1, targets_length);
    std::vector<float> dense(static_cast<size_t>((last - first) * taps));
    for (const auto* e = begin; e != end; ++e) {
      for (int64_t t = 0; t < taps; ++t) {
        const int64_t p = e->index - t + taps / 2;
        if (p >= first && p < last) dense[static_cast<size_t>((p - first) * taps + t)] = e->weight;
      }
    }
    for (int64_t copy = 0; copy < copies; ++copy) {
      for (int64_t p = first; p < last; ++p) {
        const auto from = dense.begin() + (p - first) * taps;
        if (std::all_of(from, from + taps, [](float w) { return w == 0; })) continue;
        targets.push_back(static_cast<int32_t>(copy * targets_length + p));
        weights.insert(weights.end(), from, from + taps);
      }
    }
    starts.push_back(static_cast<int32_t>(targets.size()));
  }
}

TapAdjoint::TapAdjoint(const MapGeometry& source, int64_t taps, int64_t copies)
    : height_(source.base_height()),
      width_(source.base_width()),
      target_height_(source.height()),
      target_width_(source.width()),
      rows_(AxisSampling::chain(height_, source.sizes, 0), height_, taps, copies),
      columns_(AxisSampling::chain(width_, source.sizes, 1), width_, taps) {}

void TapAdjoint::row(int64_t row, const float* dy, int64_t channels, int64_t n, int64_t slice, float* band,
                     float* g) const {
  const int64_t taps = rows_.taps, line = target_width_ * channels;
  // The band: [taps, target width, slice], or the only row that counts.
  const float* from = band;
  int64_t pixel = slice;
  if (rows_.copies_one(row)) {
    from = dy + rows_.targets[static_cast<size_t>(rows_.begin(row))] * line;
    pixel = channels;
  } else if (n == channels && n == slice) {
    sum_taps(rows_, row, dy, line, line, band, line);
  } else {
    for (int64_t x = 0; x < target_width_; ++x) {
      sum_taps(rows_, row, dy + x * channels, line, n, band + x * slice, target_width_ * slice);
    }
  }
  for (int64_t x = 0; x < width_; ++x) {
    for (int64_t t = 0; t < taps; ++t, g += taps * slice) {
      sum_taps(columns_, x, from + t * target_width_ * slice, pixel, n, g, slice);
      for (int64_t u = 0; n < slice && u < taps; ++u) std::fill(g + u * slice + n, g + (u + 1) * slice, 0.0f);
    }
  }
}

void TapAdjoint::gather(int threads, const float* dy, int64_t maps, int64_t channels, int64_t n,
                        int64_t slice, float* bands, float* g) const {
  parallel_for(threads, maps * height_, [&](int64_t i) {
    row(i % height_, dy + i / height_ * target_height_ * target_width_ * channels, channels, n, slice,
        bands + omp_get_thread_num() * band_floats(slice), g + i * width_ * rows_.taps * rows_.taps * slice);
  });
}

TapSlices::TapSlices(const MapGeometry& source, int64_t outputs, int64_t kernel)
    : slice(outputs), slices(1), group(source.batch()) {
  const int64_t bytes = 4 * source.base_height() * source.base_width() * kernel * kernel;  // of an output
  while (group > 1 && (source.batch() % group || bytes * outputs * group > kProductBudget)) --group;
  if (bytes * outputs <= kProductBudget || outputs <= kLanes) return;
  // The widest slice that fits, of those that pad the outputs the least.
  int64_t least = 0;
  for (int64_t n = kLanes; n == kLanes || n * bytes <= kProductBudget; n += kLanes) {
    const int64_t padded = (outputs + n - 1) / n * n;
    if (least && padded > least) continue;
    least = padded, slice = n, slices = padded / n;
  }
}

}  // namespace glnet::cpu
