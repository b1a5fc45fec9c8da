// triangle_resize: the antialiased resize of 8-bit pixels that makes the global image: horizontal pass,
// rounded to 8 bits, vertical pass into sums of 22 fractional bits; a band of rows a call.
//
// Threads: first, one for each output position of either axis, which computes its weights in double, in the
// order that gives Pillow's very bits, and writes them as whole numbers to the workspace, those of one tap of
// all positions next to each other. Then one for each byte of the narrowed rows, channels fastest, in tiles
// of pixels (lanes.cuh), and one for four elements of the sums, or one where rows are no whole fours: a
// warp's reads lie next to each other, across overlapping in the L1 cache, down row by row. Everything from
// the weights on is whole numbers. nvcc contracts a product and a sum to one rounding, so the two products
// whose rounding counts are __dmul_rn.
//
// Moves the band in, the narrowed rows out and in (they stay in the L2 cache), the sums in and out, and the
// output out. Floor, for a band of 256 of 2448 rows to 508 x 508 x 3: 1.9 MB of pixels, 6.2 MB of sums, 0.8
// MB out, 2.7 us on an H100 (3.35 TB/s), 8.8 us on an RTX 4090 (1.01 TB/s); 4 million multiply-adds of whole
// numbers are less, and launches are more.
// Considered: weights from the host, which would take a launch for each 4 KB of them; one kernel for both
// passes, which would narrow each row about twice. Left: not touching the sums of rows that the band does not
// meet, whose output is written all the same.
#include <cmath>

#include "cuda/lanes.cuh"

namespace glnet::cuda {
namespace {

constexpr int kFraction = 22;

/// The filter along one axis, in the workspace. Output i reads the pixels from begins[i] to before ends[i]
/// with weights[i], weights[outputs + i] and on.
struct Filter {
  int in, outputs;
  int *begins, *ends, *weights;
};

/// Weights that an output position has room for: twice the support, and one.
int64_t slots_for(int64_t in, int64_t out) {
  return (2 * std::max(in, out) + out - 1) / out + 1;
}

/// Ints that a filter takes.
int64_t filter_ints(int64_t in, int64_t out) {
  return out * (2 + slots_for(in, out));
}

__global__ void filter_kernel(Filter across, Filter down) {
  const auto all = static_cast<int>(item_step());
  for (auto item = static_cast<int>(first_item()); item < across.outputs + down.outputs; item += all) {
    const bool is_across = item < across.outputs;
    const Filter filter = is_across ? across : down;
    const int i = is_across ? item : item - across.outputs, in = filter.in;
    const double scale = static_cast<double>(in) / static_cast<double>(filter.outputs);
    const double support = std::max(scale, 1.0), inverse = 1.0 / support;
    const double centre = __dmul_rn(static_cast<double>(i) + 0.5, scale);
    const int begin = std::max(static_cast<int>(centre - support + 0.5), 0);
    const int end = std::min(static_cast<int>(centre + support + 0.5), in);
    const auto value = [&](int j) {
      const double distance = fabs(__dmul_rn(static_cast<double>(j) - centre + 0.5, inverse));
      return distance < 1 ? 1 - distance : 0;
    };
    double total = 0;
    for (int j = begin; j < end; ++j) total += value(j);
    for (int j = begin; j < end; ++j) {
      filter.weights[static_cast<int64_t>(j - begin) * filter.outputs + i] =
          static_cast<int>(0.5 + value(j) / total * (1 << kFraction));
    }
    filter.begins[i] = begin;
    filter.ends[i] = end;
  }
}

__device__ uint8_t to_byte(int sum) {
  return static_cast<uint8_t>(std::min((sum + (1 << (kFraction - 1))) >> kFraction, 255));
}

/// x: [rows, filter.in, channels]; y: [rows, filter.outputs, channels].
__global__ void narrow_kernel(const uint8_t* x, uint8_t* y, int64_t rows, int channels, Filter filter) {
  const int width = filter.outputs, across = row_tiles(width, channels);
  const TileShare share(channels);
  if (share.pixel >= share.pixels) return;
  for (int64_t tile = blockIdx.x; tile < rows * across; tile += gridDim.x) {
    const int64_t row = tile / across;
    const int column = static_cast<int>(tile % across) * share.pixels + share.pixel;
    if (column >= width) continue;
    const int begin = filter.begins[column], taps = filter.ends[column] - begin;
    for (int c = share.first; c < channels; c += kThreads) {
      const uint8_t* from = x + (row * filter.in + begin) * channels + c;
      const int* weight = filter.weights + column;
      int sum = 0;
      UNROLL_BY(4)
      for (int j = 0; j < taps; ++j, from += channels, weight += width) sum += *weight * *from;
      y[(row * width + column) * channels + c] = to_byte(sum);
    }
  }
}

/// x: the band, [band_rows, row_elements]; sum, y: n packs of elements, in rows of the same length.
template <int kLanes>
__global__ void add_kernel(const uint8_t* x, int band_row, int band_rows, int64_t row_elements, int* sum,
                           uint8_t* y, int64_t n, Filter filter) {
  const int64_t row_packs = row_elements / kLanes;
  for (int64_t i = first_item(); i < n; i += item_step()) {
    const int64_t row = i / row_packs;
    const int begin = filter.begins[row];
    const int first = std::max(begin, band_row), end = std::min(filter.ends[row], band_row + band_rows);
    const uint8_t* from = x + (first - band_row) * row_elements + i % row_packs * kLanes;
    const int* weight = filter.weights + static_cast<int64_t>(first - begin) * filter.outputs + row;
    Lanes<int, kLanes> total{};
    if (band_row != 0) total = read_lanes<int, kLanes>(sum + i * kLanes);
    UNROLL_BY(4)
    for (int j = first; j < end; ++j, from += row_elements, weight += filter.outputs) {
      const Lanes<uint8_t, kLanes> bytes = read_lanes<uint8_t, kLanes>(from);
      UNROLL
      for (int l = 0; l < kLanes; ++l) total.v[l] += *weight * bytes.v[l];
    }
    Lanes<uint8_t, kLanes> result;
    UNROLL
    for (int l = 0; l < kLanes; ++l) result.v[l] = to_byte(total.v[l]);
    reinterpret_cast<Lanes<int, kLanes>*>(sum)[i] = total;
    reinterpret_cast<Lanes<uint8_t, kLanes>*>(y)[i] = result;
  }
}

}  // namespace

void prepare_triangle_resize(const TriangleResize& op, Prepare& prepare) {
  const int64_t ints = filter_ints(op.x.dim(1), op.sum.dim(1)) + filter_ints(op.image_height, op.sum.dim(0));
  // The filters, then the band's rows, narrowed.
  prepare.workspace(static_cast<size_t>(ints) * sizeof(int) +
                    static_cast<size_t>(op.x.dim(0) * op.sum.dim(1) * op.sum.dim(2)));
}

void triangle_resize(const TriangleResize& op, const Context& context) {
  const int64_t rows = op.x.dim(0), in_width = op.x.dim(1), channels = op.x.dim(2), width = op.sum.dim(1);
  auto* workspace = static_cast<int*>(context.workspace);
  const auto make_filter = [&](int64_t in, int64_t out) {
    const Filter filter{static_cast<int>(in), static_cast<int>(out), workspace, workspace + out,
                        workspace + 2 * out};
    workspace += filter_ints(in, out);
    return filter;
  };
  const Filter across = make_filter(in_width, width), down = make_filter(op.image_height, op.sum.dim(0));
  launch(filter_kernel, blocks_for(across.outputs + down.outputs), kThreads, 0, stream_of(context), across,
         down);
  auto* narrowed = reinterpret_cast<uint8_t*>(workspace);
  launch(narrow_kernel, blocks_for_tiles(rows, across.outputs, static_cast<int>(channels)), kThreads, 0,
         stream_of(context), op.x.as<const uint8_t>(), narrowed, rows, channels, across);
  with_lanes<4>(width * channels, [&](auto lanes) {
    const int64_t n = op.sum.size() / lanes;
    launch(add_kernel<lanes>, blocks_for(n), kThreads, 0, stream_of(context), narrowed, op.row, rows,
           width * channels, op.sum.as<int>(), op.y.as<uint8_t>(), n, down);
  });
}

}  // namespace glnet::cuda
