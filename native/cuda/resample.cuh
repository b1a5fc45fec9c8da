// Bilinear resizes, one after the other, of maps or of crops of one, side by side: for resize and
// crop_resize; unfold_resize and merge_patches take their taps.
//
// Resizes along an axis compose into one sparse row an output position: at most two source positions after
// one resize, four after two. A first kernel, a thread an output position of either axis, follows each of
// these paths back and writes the taps of non-zero weight to the workspace, those of one source position
// added up; the maps between are never built. The second kernel gathers: its blocks take tiles of the output
// (lanes.cuh), a thread 16 bytes of a pixel's channels, so that a warp reads neighbouring channels of each
// source pixel. A thread has four of these loads under way, of two rows and two columns; taps, a few bytes
// for all threads of a pixel, come from the L1 cache. Several sources are rows of blocks of these launches.
#pragma once

#include "cuda/corners.cuh"
#include "cuda/lanes.cuh"

namespace glnet::cuda {

/// Source position and weight; a weight of zero ends an output's taps.
struct alignas(8) Tap {
  int index;
  float weight;
};

/// The lengths of an axis: of the source, and after each resize.
struct Chain {
  static constexpr int kMostResizes = 8;
  int resizes = 0;
  int lengths[kMostResizes + 1] = {};
  // Of the window of output positions that are wanted, see position_of; those outside read nothing.
  int first = 0, count = 0, skip = 0;
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
    chain.skip = axis == 0 ? s.window_skip_rows : s.window_skip_columns;
  }
  return chain;
}

/// The same of maps [N, H, W, C] that are resized once.
inline Chain chain_of(const char* op, const View& maps, int height, int width, size_t axis) {
  return chain_of(op, maps.dim(1 + axis), {height, width}, axis);
}

/// Sources that one launch takes.
constexpr size_t kMostSources = 4;

/// The rows and the columns of a source.
struct Chains {
  Chain axes[2];
  Tap* taps;  ///< for each axis, `tables` of [outputs, slots], each moved by one more than the one before
};

/// One row of blocks each.
struct ChainsOfSources {
  Chains sources[kMostSources];
};

static __global__ void taps_kernel(ChainsOfSources all, int tables) {
  const Chains& chains = all.sources[blockIdx.y];
  const int row_outputs = tables * chains.axes[0].count;
  const int outputs = row_outputs + tables * chains.axes[1].count;
  const int row_slots = 1 << chains.axes[0].resizes;
  for (auto i = static_cast<int>(first_item()); i < outputs; i += static_cast<int>(item_step())) {
    const int axis = i < row_outputs ? 0 : 1, at = axis == 0 ? i : i - row_outputs;
    const Chain& chain = chains.axes[axis];
    const int slots = 1 << chain.resizes, by = chain.by + at / chain.count;
    Tap* tap =
        chains.taps + static_cast<int64_t>(axis) * row_outputs * row_slots + static_cast<int64_t>(at) * slots;
    int count = 0;
    const auto output = static_cast<int>(position_of(at % chain.count, chain.first, chain.count, chain.skip));
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
        index += by;
        if (index < 0 || index >= in) {
          weight = 0;
          break;
        }
      }
      if (weight == 0) continue;
      int same = 0;
      while (same < count && tap[same].index != index) ++same;
      if (same < count) {
        tap[same].weight += weight;
      } else {
        tap[count++] = {index, weight};
      }
    }
    for (; count < slots; ++count) tap[count] = {0, 0.0f};
  }
}

/// Writes the taps of all output positions of `count` sources.
inline void fill_taps(const Context& context, const ChainsOfSources& all, size_t count, int tables) {
  int64_t most = 0;
  for (size_t i = 0; i < count; ++i) {
    const Chain* axes = all.sources[i].axes;
    most = std::max(most, static_cast<int64_t>(tables) * (axes[0].count + axes[1].count));
  }
  launch(taps_kernel, dim3(blocks_for(most), static_cast<unsigned>(count)), kThreads, 0, stream_of(context),
         all, tables);
}

/// Those of one: `tables` times rows.bytes() + columns.bytes(), all rows first. Where there are several
/// tables, positions move by one more from each to the next.
inline void fill_taps(const Context& context, const Chain& rows, const Chain& columns, int tables,
                      Tap* taps) {
  fill_taps(context, ChainsOfSources{{{{rows, columns}, taps}}}, 1, tables);
}

/// Those of one axis: chain.bytes().
inline void fill_taps(const Context& context, const Chain& chain, Tap* taps) {
  fill_taps(context, chain, Chain{}, 1, taps);
}

/// Sizes of what a kernel with `mix` reads and writes; strides in elements.
struct Gather {
  int64_t rows;       ///< of all the patches together
  int height, width;  ///< of a patch in the output
  int channels;
  int64_t row_stride;  ///< of the source
  int64_t map_stride;  ///< from one patch's source to the next
  int row_slots, column_slots;
  bool cropped = false;  ///< patches are crops of one map

  /// What a patch's taps count from.
  template <class T>
  __device__ const T* map(const T* x, int64_t patch, const Corners& corners) const {
    if (!cropped) return x + patch * map_stride;
    return x + corners.tops[patch] * row_stride + static_cast<int64_t>(corners.lefts[patch]) * channels;
  }
};

/// Tap i of `slots`, or one of weight zero. Slots are one, or an even number.
__device__ __forceinline__ Tap tap_at(const Tap* taps, int i, int slots) {
  return i < slots ? taps[i] : Tap{0, 0.0f};
}

/// Blocks of kThreads that kernels with `mix` ask a multiprocessor to hold, so that ptxas neither spills nor
/// takes more registers than help.
template <int kLanes>
constexpr int kMixBlocks = kLanes > 1 ? 3 : 4;

/// The sums over the taps of a row and a column, of neighbouring channels of a map. What has no weight does
/// not count, whatever it is.
template <int kLanes, class T>
__device__ __forceinline__ void mix(const T* map, const Tap* row_taps, const Tap* column_taps,
                                    const Gather& g, float (&sums)[kLanes]) {
  UNROLL
  for (int i = 0; i < kLanes; ++i) sums[i] = 0;
  for (int r = 0; r < g.row_slots; r += 2) {
    const Tap upper = row_taps[r], lower = tap_at(row_taps, r + 1, g.row_slots);
    if (upper.weight == 0) break;
    const bool two_rows = lower.weight != 0;
    const T *above = map + upper.index * g.row_stride,
            *below = two_rows ? map + lower.index * g.row_stride : above;
    for (int s = 0; s < g.column_slots; s += 2) {
      const Tap left = column_taps[s], right = tap_at(column_taps, s + 1, g.column_slots);
      if (left.weight == 0) break;
      const bool two_columns = right.weight != 0;
      const int64_t to_left = static_cast<int64_t>(left.index) * g.channels,
                    to_right = two_columns ? static_cast<int64_t>(right.index) * g.channels : to_left;
      // Four loads without a branch between them. A tap that is not there reads its neighbour's pixel again,
      // and is then taken to be zero: its product with a weight of zero may be NaN.
      const Lanes<T, kLanes> a = read_lanes<T, kLanes>(above + to_left);
      Lanes<T, kLanes> b = read_lanes<T, kLanes>(above + to_right);
      Lanes<T, kLanes> c = read_lanes<T, kLanes>(below + to_left);
      Lanes<T, kLanes> d = read_lanes<T, kLanes>(below + to_right);
      if (!two_columns) b = d = {};
      if (!two_rows) c = d = {};
      UNROLL
      for (int i = 0; i < kLanes; ++i) {
        sums[i] += upper.weight * left.weight * static_cast<float>(a.v[i]);
        sums[i] += upper.weight * right.weight * static_cast<float>(b.v[i]);
        sums[i] += lower.weight * left.weight * static_cast<float>(c.v[i]);
        sums[i] += lower.weight * right.weight * static_cast<float>(d.v[i]);
      }
    }
  }
}

/// A source of `gather_kernel`.
template <class T>
struct Gathered {
  const T* x;
  const Tap* rows;
  const Tap* columns;
  Gather gather;
  int first;  ///< of its channels in y
};

/// One row of blocks each.
template <class T>
struct GatheredSources {
  Gathered<T> sources[kMostSources];
};

/// y: [rows, width, channels].
template <class T, int kLanes>
__global__ void __launch_bounds__(kThreads, kMixBlocks<kLanes>)
    gather_kernel(GatheredSources<T> all, T* y, int channels, Corners corners) {
  const Gathered<T>& source = all.sources[blockIdx.y];
  const Gather& g = source.gather;
  const int packs = g.channels / kLanes, across = row_tiles(g.width, packs);
  const TileShare share(packs);
  if (share.pixel >= share.pixels) return;
  const int tiles = static_cast<int>(g.rows) * across, step = static_cast<int>(gridDim.x);
  for (auto tile = static_cast<int>(blockIdx.x); tile < tiles; tile += step) {
    const int row = tile / across, patch = row / g.height;
    const int column = tile % across * share.pixels + share.pixel;
    if (column >= g.width) continue;
    const Tap* row_taps = source.rows + row % g.height * g.row_slots;
    const Tap* column_taps = source.columns + static_cast<int64_t>(column) * g.column_slots;
    const T* map = g.map(source.x, patch, corners);
    T* pixel = y + (static_cast<int64_t>(row) * g.width + column) * channels + source.first;
    for (int pack = share.first; pack < packs; pack += kThreads) {
      float sums[kLanes];
      mix(map + pack * kLanes, row_taps, column_taps, g, sums);
      write_lanes(pixel + pack * kLanes, sums);
    }
  }
}

/// The workspace that `resample` takes.
inline size_t resample_bytes(const char* op, const std::vector<GridSource>& sources) {
  size_t bytes = 0;
  for (const GridSource& s : sources) {
    for (const size_t axis : {0, 1}) bytes += windowed_chain_of(op, s, axis).bytes();
  }
  return bytes;
}

/// Writes sources side by side. y: [patches, height, width, channels of all].
template <class T>
void resample(const char* op, const Context& context, const std::vector<GridSource>& sources, const View& y) {
  // A source that is the same for all patches has its corner in its address.
  const auto by_corners = [](const GridSource& s) { return s.tops.size() > 1; };
  const int64_t height = y.dim(1), width = y.dim(2), channels = y.dim(3);
  int64_t every = channels;
  for (const GridSource& s : sources) every |= s.channels();
  auto* taps = static_cast<Tap*>(context.workspace);
  int first = 0;
  for (size_t begin = 0, end = 0; begin < sources.size(); begin = end) {
    // As many as a launch takes, with the same corners.
    const GridSource* cropped = nullptr;
    ChainsOfSources chains{};
    GatheredSources<T> gathered{};
    for (; end < sources.size() && end - begin < kMostSources; ++end) {
      const GridSource& s = sources[end];
      if (by_corners(s)) {
        if (cropped && (s.tops != cropped->tops || s.lefts != cropped->lefts)) break;
        cropped = &s;
      }
      const Chain rows = windowed_chain_of(op, s, 0), columns = windowed_chain_of(op, s, 1);
      const int64_t row_stride = s.x.dim(2) * s.channels(), map_stride = s.x.dim(1) * row_stride;
      const T* x = s.x.as<const T>();
      if (s.tops.size() == 1) x += s.tops[0] * row_stride + s.lefts[0] * s.channels();
      chains.sources[end - begin] = {{rows, columns}, taps};
      gathered.sources[end - begin] = {.x = x,
                                       .rows = taps,
                                       .columns = taps + rows.bytes() / sizeof(Tap),
                                       .gather = {.rows = 0,
                                                  .height = static_cast<int>(height),
                                                  .width = static_cast<int>(width),
                                                  .channels = static_cast<int>(s.channels()),
                                                  .row_stride = row_stride,
                                                  .map_stride = s.batch() == 1 ? 0 : map_stride,
                                                  .row_slots = rows.slots(),
                                                  .column_slots = columns.slots(),
                                                  .cropped = by_corners(s)},
                                       .first = first};
      taps += (rows.bytes() + columns.bytes()) / sizeof(Tap);
      first += static_cast<int>(s.channels());
    }
    const size_t count = end - begin;
    fill_taps(context, chains, count, 1);
    const auto gather = [&](int64_t patch, int64_t patches, const Corners& corners) {
      GatheredSources<T> some = gathered;
      with_lanes<kWideLanes<T>>(every, [&](auto lanes) {
        unsigned blocks = 0;
        for (size_t i = 0; i < count; ++i) {
          Gather& g = some.sources[i].gather;
          g.rows = patches * height;
          if (!g.cropped) some.sources[i].x += patch * g.map_stride;
          blocks = std::max(blocks, blocks_for_tiles(g.rows, g.width, g.channels / lanes));
        }
        launch(gather_kernel<T, lanes>, dim3(blocks, static_cast<unsigned>(count)), kThreads, 0,
               stream_of(context), some, y.as<T>() + patch * height * width * channels,
               static_cast<int>(channels), corners);
      });
    };
    if (cropped) {
      for_each_corners(cropped->tops, cropped->lefts, gather);
    } else {
      gather(0, y.dim(0), Corners{});
    }
  }
}

}  // namespace glnet::cuda
