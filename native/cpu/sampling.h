// Bilinear resizes along one axis as sparse rows: what each output position reads of the source.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ops/grid_source.h"

namespace glnet::cpu {

/// Output i is the sum of weight * source[index] over the entries from begin(i) to before end(i), which are
/// in ascending order of index and have no weight of zero.
struct AxisSampling {
  struct Entry {
    int32_t index;
    float weight;
  };
  std::vector<int32_t> starts;
  std::vector<Entry> entries;

  int64_t outputs() const { return static_cast<int64_t>(starts.size()) - 1; }
  const Entry* begin(int64_t output) const { return entries.data() + starts[static_cast<size_t>(output)]; }
  const Entry* end(int64_t output) const { return begin(output + 1); }

  static AxisSampling identity(int64_t length) {
    AxisSampling s{{0}, {}};
    for (int32_t i = 0; i < length; ++i) s.append({{i, 1.0f}});
    return s;
  }

  /// Half-pixel centres, no corner alignment, no antialiasing: see ops/resize.h.
  static AxisSampling bilinear(int64_t in, int64_t out) {
    AxisSampling s{{0}, {}};
    for (int64_t i = 0; i < out; ++i) {
      // In units of 1 / (2 out), so that a position on a pixel is just on it.
      const int64_t position = std::max<int64_t>((2 * i + 1) * in - out, 0);
      const auto index = static_cast<int32_t>(position / (2 * out));
      const float fraction = static_cast<float>(position % (2 * out)) / static_cast<float>(2 * out);
      s.append(
          {{index, 1 - fraction}, {static_cast<int32_t>(std::min<int64_t>(index + 1, in - 1)), fraction}});
    }
    return s;
  }

  /// This sampling, and then one of its outputs.
  AxisSampling then(const AxisSampling& next) const {
    AxisSampling s{{0}, {}};
    for (int64_t i = 0; i < next.outputs(); ++i) {
      std::vector<Entry> row;
      for (const Entry* outer = next.begin(i); outer != next.end(i); ++outer) {
        for (const Entry* inner = begin(outer->index); inner != end(outer->index); ++inner) {
          row.push_back({inner->index, inner->weight * outer->weight});
        }
      }
      std::sort(row.begin(), row.end(), [](const Entry& a, const Entry& b) { return a.index < b.index; });
      s.append(row);
    }
    return s;
  }

  /// The adjoint: what each of the `length` positions of the source gives to the outputs.
  AxisSampling transposed(int64_t length) const {
    std::vector<std::vector<Entry>> rows(static_cast<size_t>(length));
    for (int64_t i = 0; i < outputs(); ++i) {
      for (const Entry* e = begin(i); e != end(i); ++e) {
        rows[static_cast<size_t>(e->index)].push_back({static_cast<int32_t>(i), e->weight});
      }
    }
    AxisSampling s{{0}, {}};
    for (const std::vector<Entry>& row : rows) s.append(row);
    return s;
  }

  /// The outputs at `count` positions, see position_of; those that this has not read nothing.
  AxisSampling window(int64_t first, int64_t count, int64_t skip = 0) const {
    AxisSampling s{{0}, {}};
    for (int64_t n = 0; n < count; ++n) {
      const int64_t i = position_of(n, first, count, skip);
      s.append(i < 0 || i >= outputs() ? std::vector<Entry>{} : std::vector<Entry>(begin(i), end(i)));
    }
    return s;
  }

  /// The rows (`axis` 0) or columns (`axis` 1) of a map that is resized to sizes[0] x sizes[1], then to
  /// sizes[2] x sizes[3], and so on.
  static AxisSampling chain(int64_t length, const std::vector<int>& sizes, size_t axis) {
    if (sizes.empty()) return identity(length);
    AxisSampling s = bilinear(length, sizes[axis]);
    for (size_t i = axis + 2; i < sizes.size(); i += 2) s = s.then(bilinear(sizes[i - 2], sizes[i]));
    return s;
  }

 private:
  /// Adds an output position; neighbours with the same index become one entry.
  void append(const std::vector<Entry>& row) {
    const size_t first = entries.size();
    for (const Entry& e : row) {
      if (e.weight == 0) continue;
      if (entries.size() > first && entries.back().index == e.index) {
        entries.back().weight += e.weight;
      } else {
        entries.push_back(e);
      }
    }
    starts.push_back(static_cast<int32_t>(entries.size()));
  }
};

/// The rows (`axis` 0) or columns (`axis` 1) of a source on its target grid, or of its window there.
inline AxisSampling sampling_of(const GridSource& s, size_t axis) {
  AxisSampling all = AxisSampling::chain(axis == 0 ? s.base_height() : s.base_width(), s.sizes, axis);
  if (!s.windowed()) return all;
  return axis == 0 ? all.window(s.window_top, s.window_height, s.window_skip_rows)
                   : all.window(s.window_left, s.window_width, s.window_skip_columns);
}

}  // namespace glnet::cpu
