// unfold_resize: the neighbourhood of each pixel of a map, resized, tap by tap.
//
// Threads and data: as in resample.cuh, with a table of taps for each row and each column of the kernel. A
// block takes a pixel of the output with all taps of the kernel, a thread 16 bytes of the channels of some of
// these taps: neighbouring taps read the same source pixels again, from the L1 cache. Moves each output
// element out once and the source in once. Floor, for 6 maps of 127x127x256 to 26x26 with k = 5 in bfloat16,
// 50 MB in and 52 MB out: 30 us on an H100 (3.35 TB/s). That is 3.2 million packs of 16 bytes, of four loads
// and about 150 instructions each: 17 us of what 132 multiprocessors issue, in the shadow of the memory.
// Of crops resized to 127x127 first, 52 MB out and little in, 16 us; taps of two resizes are up to 3 x 3
// pixels of the crop, on the average 2.1 times as many loads, whose instructions take about 30 us.
// Considered: a row of the output a block, its 26 pixels one after the other, which leaves most of a large
// card idle; a kernel row a thread, so that two taps share two columns of source pixels in registers, which
// saves loads from the L1 cache only.
#include "cuda/resample.cuh"

namespace glnet::cuda {
namespace {

/// Of the taps of the first row or column of the kernel; from each to the next, positions move by one more.
Chain axis(const UnfoldResize& op, size_t axis) {
  std::vector<int> sizes = op.source.sizes;
  sizes.push_back(op.height);
  sizes.push_back(op.width);
  const GridSource& s = op.source;
  Chain chain = chain_of(op.kName, axis == 0 ? s.base_height() : s.base_width(), sizes, axis);
  chain.moved = chain.resizes - 1;
  chain.by = -(op.kernel / 2);
  return chain;
}

struct Unfold {
  Gather gather;
  int kernel;
  int row_table, column_table;  ///< taps in the table of a row or column of the kernel
};

/// y: [rows, width, kernel, kernel, channels].
template <class T, int kLanes>
__global__ void __launch_bounds__(kThreads, kMixBlocks<kLanes>)
    unfold_kernel(const T* x, T* y, const Tap* rows, const Tap* columns, Unfold u, Corners corners) {
  const Gather& g = u.gather;
  const int packs = g.channels / kLanes, taps = u.kernel * u.kernel;
  // Taps take the place of a tile's pixels.
  const TileShare share(packs);
  if (share.pixel >= share.pixels) return;
  for (int64_t i = blockIdx.x; i < g.rows * g.width; i += gridDim.x) {
    const int64_t row = i / g.width, patch = row / g.height;
    const T* map = g.map(x, patch, corners);
    const Tap* row_taps = rows + row % g.height * g.row_slots;
    const Tap* column_taps = columns + i % g.width * g.column_slots;
    for (int tap = share.pixel; tap < taps; tap += share.pixels) {
      const int kernel_row = tap / u.kernel, kernel_column = tap % u.kernel;
      T* to = y + (i * taps + tap) * g.channels;
      for (int pack = share.first; pack < packs; pack += kThreads) {
        float sums[kLanes];
        mix(map + pack * kLanes, row_taps + kernel_row * u.row_table,
            column_taps + kernel_column * u.column_table, g, sums);
        write_lanes(to + pack * kLanes, sums);
      }
    }
  }
}

/// Calls `body(first patch, gather, corners)` for as many crops at a time as a launch takes, or, where there
/// are none, once for all maps.
template <class Body>
void for_each_gather(const UnfoldResize& op, const Chain& rows, const Chain& columns, Body&& body) {
  const GridSource& s = op.source;
  const int64_t row_stride = s.x.dim(2) * s.channels();
  const auto gather = [&](int64_t first, int64_t count, const Corners& corners) {
    body(first,
         Gather{count * op.y.dim(1), rows.outputs(), columns.outputs(), static_cast<int>(s.channels()),
                row_stride, s.cropped() ? 0 : s.x.dim(1) * row_stride, rows.slots(), columns.slots(),
                s.cropped()},
         corners);
  };
  if (!s.cropped()) return gather(0, op.y.dim(0), Corners{});
  for_each_corners(s.tops, s.lefts, gather);
}

}  // namespace

void prepare_unfold_resize(const UnfoldResize& op, Prepare& prepare) {
  const auto tables = static_cast<size_t>(op.kernel);
  prepare.workspace(tables * (axis(op, 0).bytes() + axis(op, 1).bytes()));
}

void unfold_resize(const UnfoldResize& op, const Context& context) {
  const GridSource& s = op.source;
  const Chain rows = axis(op, 0), columns = axis(op, 1);
  const auto row_table = static_cast<int>(rows.bytes() / sizeof(Tap));
  const auto column_table = static_cast<int>(columns.bytes() / sizeof(Tap));
  auto* row_taps = static_cast<Tap*>(context.workspace);
  Tap* column_taps = row_taps + op.kernel * row_table;
  fill_taps(context, rows, columns, op.kernel, row_taps);
  with_type(op.kName, s.x.dtype, [&](auto t) {
    using T = decltype(t);
    for_each_gather(op, rows, columns, [&](int64_t first, const Gather& g, const Corners& corners) {
      with_lanes<kWideLanes<T>>(g.channels, [&](auto lanes) {
        launch(unfold_kernel<T, lanes>, static_cast<unsigned>(std::min(g.rows * g.width, kMostBlocks)),
               kThreads, 0, stream_of(context), s.x.as<const T>() + first * g.map_stride,
               op.y.as<T>() + first * op.y.dim(1) * op.y.dim(2) * op.y.dim(3), row_taps, column_taps,
               Unfold{g, op.kernel, row_table, column_table}, corners);
      });
    });
  });
}

}  // namespace glnet::cuda
