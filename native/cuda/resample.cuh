// Bilinear resizes, one after the other, of maps or of crops of one: for resize and crop_resize;
// merge_patches takes their taps.
//
// Resizes along an axis compose into one sparse row an output position: at most two source positions after
// one resize, four after two. A first kernel, a thread an output position, follows each of these paths back
// and writes the taps of non-zero weight to the workspace; the maps between are never built. The second
// kernel gathers: a block takes rows of the output, its threads the row's elements, channels fastest, so that
// a warp reads neighbouring channels of each source pixel; taps come from the L1 cache.
#pragma once

#include "cuda/corners.cuh"

namespace glnet::cuda {

/// Source position and weight; a weight of zero ends an output's taps.
struct Tap {
  int index;
  float weight;
};

/// The lengths of an axis: of the source, and after each resize.
struct Chain {
  static constexpr int kMostResizes = 8;
  int resizes = 0;
  int lengths[kMostResizes + 1] = {};
  // Of the window of output positions that are wanted; those outside read nothing.
  int first = 0, count = 0;
  // After so many resizes, positions move by this many; those that leave the map read nothing. -1: they
  // don't.
  int moved = -1, by = 0;

  int outputs() const { return count; }
  /// Taps that an output position has room for.
  int slots() const { return 1 << resizes; }
  size_t bytes() const { return static_cast<size_t>(outputs()) * static_cast<size_t>(slots()) * sizeof(Tap); }
};

/// Rows (`axis` 0) or columns (`axis` 1) of a map that is resized to sizes[0] x sizes[1], and so on.
inline Chain chain_of(const char* op, int64_t length, const std::vector<int>& sizes, size_t axis) {
  check(sizes.size() <= 2 * Chain::kMostResizes, op, ": CUDA chains at most ", Chain::kMostResizes,
        " resizes, and there are ", sizes.size() / 2);
  Chain chain;
  chain.lengths[0] = static_cast<int>(length);
  for (size_t i = axis; i < sizes.size(); i += 2) chain.lengths[++chain.resizes] = sizes[i];
  chain.count = chain.lengths[chain.resizes];
  return chain;
}

/// The same of a source as another grid sees it.
template <class Source>
Chain chain_of(const char* op, const GridView<Source>& s, size_t axis) {
  return chain_of(op, axis == 0 ? s.base_height() : s.base_width(), s.sizes, axis);
}

/// The same of a source's window, if it has one.
inline Chain windowed_chain_of(const char* op, const GridSource& s, size_t axis) {
  Chain chain = chain_of(op, s, axis);
  if (s.windowed()) {
    chain.first = axis == 0 ? s.window_top : s.window_left;
    chain.count = axis == 0 ? s.window_height : s.window_width;
  }
  return chain;
}

/// The same of maps [N, H, W, C] that are resized once.
inline Chain chain_of(const char* op, const View& maps, int height, int width, size_t axis) {
  return chain_of(op, maps.dim(1 + axis), {height, width}, axis);
}

/// taps: [outputs, slots].
static __global__ void taps_kernel(Chain chain, int outputs, int slots, Tap* taps) {
  for (int64_t i = first_item(); i < outputs; i += item_step()) {
    Tap* tap = taps + i * slots;
    int count = 0;
    const int output = static_cast<int>(i) + chain.first;
    const bool inside = output >= 0 && output < chain.lengths[chain.resizes];
    for (int path = 0; inside && path < slots; ++path) {
      int index = output;
      float weight = 1;
      for (int step = chain.resizes; step > 0; --step) {
        const int64_t in = chain.lengths[step - 1], out = chain.lengths[step];
        // In units of 1 / (2 out), so that a position on a pixel is just on it.
        const int64_t position = std::max<int64_t>((2 * static_cast<int64_t>(index) + 1) * in - out, 0);
        const float fraction = static_cast<float>(position % (2 * out)) / static_cast<float>(2 * out);
        index = static_cast<int>(position / (2 * out));
        if (path >> (step - 1) & 1) {
          index = std::min(index + 1, static_cast<int>(in) - 1);
          weight *= fraction;
        } else {
          weight *= 1 - fraction;
        }
        if (step - 1 != chain.moved) continue;
        index += chain.by;
        if (index < 0 || index >= in) {
          weight = 0;
          break;
        }
      }
      if (weight != 0) tap[count++] = {index, weight};
    }
    for (; count < slots; ++count) tap[count] = {0, 0.0f};
  }
}

/// Writes the taps of all output positions of an axis: chain.bytes().
inline void fill_taps(const Context& context, const Chain& chain, Tap* taps) {
  launch(taps_kernel, blocks_for(chain.outputs()), kThreads, 0, stream_of(context), chain, chain.outputs(),
         chain.slots(), taps);
}

/// Sizes of what `gather_kernel` reads and writes; strides in elements.
struct Gather {
  int64_t rows;       ///< of all the patches together
  int height, width;  ///< of a patch in the output
  int channels;
  int64_t row_stride;  ///< of the source
  int64_t map_stride;  ///< from one patch's source to the next; 0 if they are crops of one map
  int row_slots, column_slots;
};

/// The sum over the taps of a row and a column, of a channel of a map.
template <class T>
__device__ float mix(const T* map, const Tap* row_taps, const Tap* column_taps, const Gather& g) {
  float sum = 0;
  for (int r = 0; r < g.row_slots && row_taps[r].weight != 0; ++r) {
    const T* source = map + row_taps[r].index * g.row_stride;
    float part = 0;
    for (int s = 0; s < g.column_slots && column_taps[s].weight != 0; ++s) {
      part += column_taps[s].weight *
              static_cast<float>(source[static_cast<int64_t>(column_taps[s].index) * g.channels]);
    }
    sum += row_taps[r].weight * part;
  }
  return sum;
}

/// y: [rows, width, channels]. Corners are zero where there are no crops.
template <class T>
__global__ void gather_kernel(const T* x, T* y, const Tap* rows, const Tap* columns, Gather g,
                              Corners corners) {
  for (int64_t i = blockIdx.x; i < g.rows; i += gridDim.x) {
    const int64_t patch = i / g.height;
    const Tap* row_taps = rows + i % g.height * g.row_slots;
    const T* map = x + patch * g.map_stride;
    if (g.map_stride == 0) map += corners.tops[patch] * g.row_stride + corners.lefts[patch] * g.channels;
    for (int j = static_cast<int>(threadIdx.x); j < g.width * g.channels; j += kThreads) {
      const int column = j / g.channels, c = j % g.channels;
      const Tap* column_taps = columns + static_cast<int64_t>(column) * g.column_slots;
      y[i * g.width * g.channels + j] = T(mix(map + c, row_taps, column_taps, g));
    }
  }
}

/// Calls `body(first patch, gather, corners)` for crops of x, a map [1, H, W, channels], as many at a time as
/// a launch takes, or, where there are no tops, once for maps x [N, H, W, channels]. y: [patches, height,
/// ...].
template <class Body>
void for_each_gather(const View& x, const View& y, int channels, const Chain& rows, const Chain& columns,
                     const std::vector<int>& tops, const std::vector<int>& lefts, Body&& body) {
  const auto gather = [&](int64_t count, int64_t map_stride) {
    return Gather{count * y.dim(1),    rows.outputs(), columns.outputs(), channels,
                  x.dim(2) * channels, map_stride,     rows.slots(),      columns.slots()};
  };
  if (tops.empty()) {
    body(0, gather(y.dim(0), x.dim(1) * x.dim(2) * channels), Corners{});
  } else {
    for_each_corners(tops, lefts, [&](int64_t first, int64_t count, const Corners& corners) {
      body(first, gather(count, 0), corners);
    });
  }
}

/// Resizes crops of x, a map [1, H, W, C], or, where there are no tops, maps x [N, H, W, C]. y: [patches,
/// height, width, C]. The workspace holds the taps: rows.bytes() + columns.bytes().
template <class T>
void resample(const Context& context, const View& x, const View& y, const Chain& rows, const Chain& columns,
              const std::vector<int>& tops, const std::vector<int>& lefts) {
  auto* row_taps = static_cast<Tap*>(context.workspace);
  Tap* column_taps = row_taps + rows.bytes() / sizeof(Tap);
  fill_taps(context, rows, row_taps);
  fill_taps(context, columns, column_taps);
  for_each_gather(x, y, static_cast<int>(y.dim(3)), rows, columns, tops, lefts,
                  [&](int64_t first, const Gather& g, const Corners& corners) {
                    launch(gather_kernel<T>, static_cast<unsigned>(std::min(g.rows, kMostBlocks)), kThreads,
                           0, stream_of(context), x.as<const T>() + first * g.map_stride,
                           y.as<T>() + first * y.dim(1) * y.dim(2) * y.dim(3), row_taps, column_taps, g,
                           corners);
                  });
}

}  // namespace glnet::cuda
