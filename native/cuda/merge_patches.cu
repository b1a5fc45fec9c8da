// merge_patches: local to global sharing. Each patch's map is resized bilinearly and added to a map of the
// whole image; with the last patches the sum is divided by the coverage.
//
// Threads: a block takes a tile of the sum (lanes.cuh), a thread four channels of a pixel. Each goes through
// the patches in their order and adds those that cover its pixel in registers: no atomics, and the same bits
// each time. Taps, the same for every patch, come from the workspace as in resample.cuh. The division is a
// launch of its own, whose parameters hold the coverage of some rows and columns: it runs once an image.
// Moves each covered element of the sum in and out once, and in of the patches what the taps touch: a
// reduction by r reads (2 / r)^2 of them, whole pixels at a time. Floor, for 6 patches of 127x127x256 to
// 26x26 in float32, at most 4 x 26 x 26 of their pixels: 17 MB in and 8 MB in and out, 7.4 us on an H100
// (3.35 TB/s), 25 us on an RTX 4090 (1.01 TB/s); 4 multiply-adds for each covered element are less. These are
// 26 x 127 pixels, 826 blocks: one round of a large card, so that two trips to memory, for the taps and for
// what they touch, are to be added. Division of 127x127x256, 16.5 MB in and out: 10 us.
// Considered: a block a patch, which would have to take turns where patches overlap. Left: the division
// inside the last launch, which saves one pass over the sum in an image.
#include "cuda/resample.cuh"

namespace glnet::cuda {
namespace {

Chain axis(const MergePatches& op, size_t axis) {
  return chain_of(op.kName, op.x, op.height, op.width, axis);
}

/// Channels a thread: of the sum, in float32, 16 bytes.
constexpr int kMergeLanes = 4;

struct Merge {
  int sum_height, sum_width;
  Gather gather;  ///< of the patches' maps; `rows` is not read
};

/// sum: [sum_height, sum_width, channels]; x: `count` maps.
template <class T, int kLanes>
__global__ void __launch_bounds__(kThreads, kMixBlocks<kLanes>)
    merge_kernel(float* sum, const T* x, const Tap* rows, const Tap* columns, Merge m, int count,
                 Corners corners) {
  const Gather& g = m.gather;
  const int packs = g.channels / kLanes, across = row_tiles(m.sum_width, packs);
  const TileShare share(packs);
  if (share.pixel >= share.pixels) return;
  for (int64_t tile = blockIdx.x; tile < static_cast<int64_t>(m.sum_height) * across; tile += gridDim.x) {
    const auto row = static_cast<int>(tile / across);
    const int column = static_cast<int>(tile % across) * share.pixels + share.pixel;
    if (column >= m.sum_width) continue;
    for (int pack = share.first; pack < packs; pack += kThreads) {
      float* element = sum + (static_cast<int64_t>(row) * m.sum_width + column) * g.channels + pack * kLanes;
      Lanes<float, kLanes> total{};
      bool covered = false;
      for (int n = 0; n < count; ++n) {
        const int r = row - corners.tops[n], s = column - corners.lefts[n];
        if (r < 0 || r >= g.height || s < 0 || s >= g.width) continue;
        if (!covered) total = read_lanes<float, kLanes>(element);
        covered = true;
        float sums[kLanes];
        mix(x + n * g.map_stride + pack * kLanes, rows + static_cast<int64_t>(r) * g.row_slots,
            columns + static_cast<int64_t>(s) * g.column_slots, g, sums);
        UNROLL
        for (int i = 0; i < kLanes; ++i) total.v[i] += sums[i];
      }
      if (covered) write_lanes(element, total.v);
    }
  }
}

/// The coverage of some rows and columns.
struct Coverage {
  float rows[kMostCorners];
  float columns[kMostCorners];
};

/// sum: [height, .., channels], of which the first `width` pixels of each row, `row_stride` elements after
/// the one before, are divided.
template <int kLanes>
__global__ void __launch_bounds__(kThreads)
    divide_kernel(float* sum, int height, int width, int channels, int64_t row_stride, Coverage coverage) {
  const int packs = channels / kLanes, across = row_tiles(width, packs);
  const TileShare share(packs);
  if (share.pixel >= share.pixels) return;
  for (auto tile = static_cast<int>(blockIdx.x); tile < height * across;
       tile += static_cast<int>(gridDim.x)) {
    const int row = tile / across, column = tile % across * share.pixels + share.pixel;
    if (column >= width) continue;
    const float divisor = coverage.rows[row] * coverage.columns[column];
    float* pixel = sum + row * row_stride + static_cast<int64_t>(column) * channels;
    for (int pack = share.first; pack < packs; pack += kThreads) {
      Lanes<float, kLanes> values = read_lanes<float, kLanes>(pixel + pack * kLanes);
      UNROLL
      for (int i = 0; i < kLanes; ++i) values.v[i] = divisor == 0 ? 0.0f : values.v[i] / divisor;
      write_lanes(pixel + pack * kLanes, values.v);
    }
  }
}

void divide(const MergePatches& op, const Context& context) {
  const std::vector<float>&rows = op.row_coverage, &columns = op.column_coverage;
  const int64_t channels = op.sum.dim(3), row_stride = op.sum.dim(2) * channels;
  for (size_t row = 0; row < rows.size(); row += kMostCorners) {
    for (size_t column = 0; column < columns.size(); column += kMostCorners) {
      const size_t some_rows = std::min(kMostCorners, rows.size() - row),
                   some_columns = std::min(kMostCorners, columns.size() - column);
      Coverage coverage{};
      std::copy_n(rows.data() + row, some_rows, coverage.rows);
      std::copy_n(columns.data() + column, some_columns, coverage.columns);
      const int64_t first = static_cast<int64_t>(row) * row_stride + static_cast<int64_t>(column) * channels;
      const auto height = static_cast<int>(some_rows), width = static_cast<int>(some_columns);
      with_lanes<kMergeLanes>(channels, [&](auto lanes) {
        launch(divide_kernel<lanes>, blocks_for_tiles(height, width, static_cast<int>(channels / lanes)),
               kThreads, 0, stream_of(context), op.sum.as<float>() + first, height, width, channels,
               row_stride, coverage);
      });
    }
  }
}

}  // namespace

void prepare_merge_patches(const MergePatches& op, Prepare& prepare) {
  prepare.workspace(axis(op, 0).bytes() + axis(op, 1).bytes());
}

void merge_patches(const MergePatches& op, const Context& context) {
  const Chain rows = axis(op, 0), columns = axis(op, 1);
  auto* row_taps = static_cast<Tap*>(context.workspace);
  Tap* column_taps = row_taps + rows.bytes() / sizeof(Tap);
  fill_taps(context, rows, columns, 1, row_taps);
  with_type(op.kName, op.x.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t row_stride = op.x.dim(2) * op.x.dim(3), map_stride = op.x.dim(1) * row_stride;
    const auto channels = static_cast<int>(op.sum.dim(3));
    const Merge merge{
        static_cast<int>(op.sum.dim(1)), static_cast<int>(op.sum.dim(2)),
        Gather{0, op.height, op.width, channels, row_stride, map_stride, rows.slots(), columns.slots()}};
    for_each_corners(op.tops, op.lefts, [&](int64_t first, int64_t count, const Corners& corners) {
      with_lanes<kMergeLanes>(channels, [&](auto lanes) {
        launch(merge_kernel<T, lanes>, blocks_for_tiles(merge.sum_height, merge.sum_width, channels / lanes),
               kThreads, 0, stream_of(context), op.sum.as<float>(), op.x.as<const T>() + first * map_stride,
               row_taps, column_taps, merge, count, corners);
      });
    });
  });
  if (!op.row_coverage.empty()) divide(op, context);
}

}  // namespace glnet::cuda
