// The adjoint of aggregate_conv's gather, for both of its backward ops.
//
// Threads and data: a block takes a row of a map, and up to 32 outputs, which are neighbouring threads. For
// each patch that reads the row it goes down dy's columns: for each column and each row of the kernel the sum
// over the rows that the source's row was given to, see adjoint.cuh, into shared memory. Then along the row,
// over the columns, for each of the kernel's. This is the gather's way back, and its costs are the same.
//
// Bytes: dy in about 2 k times, from the L2 cache, since a row of dy serves two rows of the source; G out
// once. Floor, for 6 sources of 64x64 to 127x127 with 512 outputs and a 3 x 3 kernel, 198 MB of dy and 453 MB
// of G: 194 us on an H100 (3.35 TB/s), 645 us on an RTX 4090 (1.01 TB/s), but G in slices stays within the L2
// cache of the cards with 50 MB and more.
// Considered: two kernels with the sums down the columns in memory,
// as much again as G; single pixels without these sums: for each element of G as many terms as rows times
// columns. Left: reading a row of dy once for the k rows of the kernel, which takes sums in registers for
// each size of kernel.
#include "cuda/gemm.cuh"
#include "cuda/tap_gradient.cuh"

namespace glnet::cuda {
namespace {

constexpr int64_t kBandBytes = 48 << 10;  // of shared memory, for the sums down the columns
constexpr int64_t kWideSlice = 64;        // outputs that make it worthwhile to do fewer maps at once

/// What `gather_gradient_kernel` reads and writes.
struct GradientGather {
  const float* dy;  ///< [patches, height, width, outputs], from the first output that is read
  float* to;        ///< [lines, map_width, kernel, kernel, channels]
  AdjointAxis rows, columns;
  int64_t lines;  ///< rows of all maps together
  int first_row, rows_of_map;
  int map_width;
  int crop_height, crop_width;
  int height, width, outputs;
  int kernel;
  int channels;
  int lanes;    ///< of `channels` at a time
  int patches;  ///< that read a map
  bool add;
};

/// The band is [columns, k, lanes]. Corners are zero where there are no crops.
__global__ void __launch_bounds__(kThreads, 4) gather_gradient_kernel(GradientGather g, Corners corners) {
  DYNAMIC_SHARED(float, band);
  const auto thread = static_cast<int>(threadIdx.x);
  const int lane = thread % g.lanes, first = thread / g.lanes, step = kThreads / g.lanes;
  const int chunks = (g.channels + g.lanes - 1) / g.lanes, radius = g.kernel / 2;
  const int area = g.kernel * g.kernel;
  for (int64_t item = blockIdx.x; item < g.lines * chunks; item += gridDim.x) {
    const int64_t line = item / chunks, map = line / g.rows_of_map;
    const int n = static_cast<int>(item % chunks) * g.lanes + lane;
    const int row = static_cast<int>(line % g.rows_of_map) + g.first_row;
    float* to = g.to + line * g.map_width * area * g.channels + n;
    bool add = g.add;
    for (int patch = 0; patch < g.patches; ++patch) {
      const int own_row = row - corners.tops[patch], left = corners.lefts[patch];
      if (own_row < 0 || own_row >= g.crop_height) continue;
      const float* dy = g.dy + (map + patch) * g.height * g.width * g.outputs + n;
      const Span down = g.rows.spans[own_row];
      const float* row_weights = g.rows.weights + static_cast<int64_t>(own_row) * g.rows.outputs;
      for (int i = first; n < g.channels && i < g.width * g.kernel; i += step) {
        const int column = i / g.kernel, shift = radius - i % g.kernel;
        float sum = 0;
        const int end = std::min(down.end, g.height - shift);
        for (int v = std::max(down.begin, -shift); v < end; ++v) {
          sum += row_weights[v] * dy[(static_cast<int64_t>(v + shift) * g.width + column) * g.outputs];
        }
        band[i * g.lanes + lane] = sum;
      }
      __syncthreads();
      for (int i = first; n < g.channels && i < g.map_width * area; i += step) {
        const int own_column = i / area - left, tap = i % area, shift = radius - tap % g.kernel;
        const bool inside = own_column >= 0 && own_column < g.crop_width;
        if (add && !inside) continue;
        float sum = 0;
        if (inside) {
          const Span across = g.columns.spans[own_column];
          const float* column_weights =
              g.columns.weights + static_cast<int64_t>(own_column) * g.columns.outputs;
          const int end = std::min(across.end, g.width - shift);
          for (int v = std::max(across.begin, -shift); v < end; ++v) {
            const float part = band[((v + shift) * g.kernel + tap / g.kernel) * g.lanes + lane];
            sum += column_weights[v] * part;
          }
        }
        float& element = to[static_cast<int64_t>(i) * g.channels];
        element = add ? element + sum : sum;
      }
      add = true;
      // The next patch, or item, writes the band again.
      __syncthreads();
    }
    for (int i = first; !add && n < g.channels && i < g.map_width * area; i += step) {
      to[static_cast<int64_t>(i) * g.channels] = 0;
    }
  }
}

}  // namespace

TapGradient::TapGradient(const char* op, const View& dy, const MapGeometry& source, int64_t kernel)
    : dy_(dy),
      source_(source),
      kernel_(kernel),
      outputs_(dy.dim(3)),
      rows_(chain_of(op, source, 0)),
      columns_(chain_of(op, source, 1)),
      maps_(source.map_dim(0)),
      first_row_(0),
      last_row_(source.map_dim(1)),
      width_(source.map_dim(2)) {
  check(dy.dim(2) * kernel_ * 4 <= kBandBytes, op, ": CUDA takes at most ", kBandBytes / (4 * kernel_),
        " columns of dy with a kernel of ", kernel_, ", and there are ", dy.dim(2));
  if (source.cropped()) {
    const auto [least, most] = std::minmax_element(source.tops.begin(), source.tops.end());
    first_row_ = *least;
    last_row_ = *most + source.crop_height;
  }
  choose_slices();
}

void TapGradient::choose_slices() {
  const auto fit = [&](int64_t maps) { return scratch_bytes() / (4 * maps * pixels() * area()); };
  group_ = maps_;
  while (group_ > 1 && fit(group_) < std::min(outputs_, kWideSlice)) --group_;
  // As many outputs as fit, in slices of about the same size. Multiples of 4, so that quads are aligned.
  const int64_t most = std::max<int64_t>(fit(group_) / 4 * 4, 4), slices = (outputs_ + most - 1) / most;
  slice_ = std::min(((outputs_ + slices - 1) / slices + 3) / 4 * 4, outputs_);
}

TapGradient::Tables TapGradient::fill_tables(const Context& context, void* memory) const {
  auto* bytes = static_cast<std::byte*>(memory);
  return {rows_.fill(context, bytes), columns_.fill(context, bytes + rows_.bytes())};
}

void TapGradient::gather(const Context& context, const Tables& tables, int64_t map, int64_t maps,
                         int64_t output, int64_t outputs, float* to) const {
  const int64_t patch_size = dy_.dim(1) * dy_.dim(2) * outputs_, lines = maps * (last_row_ - first_row_);
  GradientGather g{.dy = dy_.as<const float>() + map * patch_size + output,
                   .to = to,
                   .rows = tables.rows,
                   .columns = tables.columns,
                   .lines = lines,
                   .first_row = static_cast<int>(first_row_),
                   .rows_of_map = static_cast<int>(last_row_ - first_row_),
                   .map_width = static_cast<int>(width_),
                   .crop_height = static_cast<int>(source_.base_height()),
                   .crop_width = static_cast<int>(source_.base_width()),
                   .height = static_cast<int>(dy_.dim(1)),
                   .width = static_cast<int>(dy_.dim(2)),
                   .outputs = static_cast<int>(outputs_),
                   .kernel = static_cast<int>(kernel_),
                   .channels = static_cast<int>(outputs),
                   .lanes = 32,
                   .patches = 1,
                   .add = false};
  const int64_t lane_bytes = dy_.dim(2) * kernel_ * 4;
  while (g.lanes > 1 && (g.lanes / 2 >= outputs || g.lanes * lane_bytes > kBandBytes)) g.lanes /= 2;
  const int64_t items = lines * ((outputs + g.lanes - 1) / g.lanes);
  const auto run = [&](const Corners& corners) {
    launch(gather_gradient_kernel, static_cast<unsigned>(std::min(items, kMostBlocks)), kThreads,
           static_cast<size_t>(g.lanes * lane_bytes), stream_of(context), g, corners);
  };
  if (maps_ == dy_.dim(0) && !source_.cropped()) return run(Corners{});
  // One map. Where every patch reads the same of it, there is one corner or none.
  std::vector<int> tops = source_.tops, lefts = source_.lefts;
  const auto patches = static_cast<size_t>(dy_.dim(0));
  tops.resize(patches, tops.empty() ? 0 : tops[0]);
  lefts.resize(patches, lefts.empty() ? 0 : lefts[0]);
  for_each_corners(tops, lefts, [&](int64_t first, int64_t count, const Corners& corners) {
    g.dy = dy_.as<const float>() + first * patch_size + output;
    g.patches = static_cast<int>(count);
    g.add = first > 0;
    run(corners);
  });
}

}  // namespace glnet::cuda
