// merge_patches: local to global sharing. Each patch's map is resized bilinearly and added to a map of the
// whole image; with the last patches the sum is divided by the coverage.
//
// Threads: a block takes rows of the sum, its threads the row's elements, channels fastest. Each goes through
// the patches in their order and adds those that cover its element in a register: no atomics, and the same
// bits each time. Taps, the same for every patch, come from the workspace as in resample.cuh. The division is
// a launch of its own, whose parameters hold the coverage of some rows and columns: it runs once an image.
// Moves each covered element of the sum in and out once, and in of the patches what the taps touch: a
// reduction by r reads (2 / r)^2 of them, whole pixels at a time. Floor, for 6 patches of 127x127x256 to
// 26x26 in float32, at most 4 x 26 x 26 of their pixels: 17 MB in and 8 MB in and out, 7.4 us on an H100
// (3.35 TB/s), 25 us on an RTX 4090 (1.01 TB/s); 4 multiply-adds for each covered element are less.
// Considered: a block a patch, which would have to take turns where patches overlap. Left: four channels a
// thread; the division inside the last launch, which saves one pass over the sum in an image.
#include "cuda/resample.cuh"

namespace glnet::cuda {
namespace {

Chain axis(const MergePatches& op, size_t axis) {
  return chain_of(op.kName, op.x, op.height, op.width, axis);
}

struct Merge {
  int sum_height, sum_width;
  int height, width;  ///< of a patch in the sum
  int channels;
  int64_t row_stride, map_stride;  ///< of the patches' maps, in elements
  int row_slots, column_slots;
};

/// sum: [sum_height, sum_width, channels]; x: `count` maps.
template <class T>
__global__ void merge_kernel(float* sum, const T* x, const Tap* rows, const Tap* columns, Merge m, int count,
                             Corners corners) {
  for (int row = static_cast<int>(blockIdx.x); row < m.sum_height; row += static_cast<int>(gridDim.x)) {
    for (int i = static_cast<int>(threadIdx.x); i < m.sum_width * m.channels; i += kThreads) {
      const int column = i / m.channels, c = i % m.channels;
      float* element = sum + static_cast<int64_t>(row) * m.sum_width * m.channels + i;
      float total = 0;
      bool covered = false;
      for (int n = 0; n < count; ++n) {
        const int r = row - corners.tops[n], s = column - corners.lefts[n];
        if (r < 0 || r >= m.height || s < 0 || s >= m.width) continue;
        if (!covered) total = *element;
        covered = true;
        const T* map = x + n * m.map_stride + c;
        const Tap *row_taps = rows + static_cast<int64_t>(r) * m.row_slots,
                  *column_taps = columns + static_cast<int64_t>(s) * m.column_slots;
        float value = 0;
        for (int v = 0; v < m.row_slots && row_taps[v].weight != 0; ++v) {
          const T* source = map + row_taps[v].index * m.row_stride;
          float part = 0;
          for (int u = 0; u < m.column_slots && column_taps[u].weight != 0; ++u) {
            part += column_taps[u].weight *
                    static_cast<float>(source[static_cast<int64_t>(column_taps[u].index) * m.channels]);
          }
          value += row_taps[v].weight * part;
        }
        total += value;
      }
      if (covered) *element = total;
    }
  }
}

/// The coverage of some rows and columns.
struct Coverage {
  float rows[kMostCorners];
  float columns[kMostCorners];
};

/// sum: [.., row_stride], the first `row_elements` of each row to be divided. A block takes a row.
__global__ void divide_kernel(float* sum, int row_elements, int64_t row_stride, int channels,
                              Coverage coverage) {
  const auto row = static_cast<int>(blockIdx.x);
  for (int i = static_cast<int>(threadIdx.x); i < row_elements; i += kThreads) {
    const float divisor = coverage.rows[row] * coverage.columns[i / channels];
    float& element = sum[row * row_stride + i];
    element = divisor == 0 ? 0.0f : element / divisor;
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
      launch(divide_kernel, static_cast<unsigned>(some_rows), kThreads, 0, stream_of(context),
             op.sum.as<float>() + first, static_cast<int64_t>(some_columns) * channels, row_stride, channels,
             coverage);
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
  fill_taps(context, rows, row_taps);
  fill_taps(context, columns, column_taps);
  with_type(op.kName, op.x.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t row_stride = op.x.dim(2) * op.x.dim(3), map_stride = op.x.dim(1) * row_stride;
    const Merge merge{static_cast<int>(op.sum.dim(1)),
                      static_cast<int>(op.sum.dim(2)),
                      op.height,
                      op.width,
                      static_cast<int>(op.sum.dim(3)),
                      row_stride,
                      map_stride,
                      rows.slots(),
                      columns.slots()};
    for_each_corners(op.tops, op.lefts, [&](int64_t first, int64_t count, const Corners& corners) {
      launch(merge_kernel<T>, static_cast<unsigned>(std::min(op.sum.dim(1), kMostBlocks)), kThreads, 0,
             stream_of(context), op.sum.as<float>(), op.x.as<const T>() + first * map_stride, row_taps,
             column_taps, merge, count, corners);
    });
  });
  if (!op.row_coverage.empty()) divide(op, context);
}

}  // namespace glnet::cuda
