// crop_resize_backward: each pixel of the map gathers what it gave to each patch, with the weights of
// adjoint.cuh.
//
// Threads: a block takes a tile of dx (lanes.cuh), a thread 16 bytes of a pixel's channels. Each goes through
// the patches in their order and adds those whose crops cover its pixel: no atomics, and the same bits each
// time. More patches than one launch takes corners go on in the next, from dx.
// Moves dy in once and dx out once, with an addend that in; each element of dy is read by the four pixels
// that it was mixed from, mostly from the caches. Floor, for 6 crops of 26x26x256 from 127x127 in float32, 99
// MB in and 17 MB out: 35 us on an H100 (3.35 TB/s), 115 us on an RTX 4090 (1.01 TB/s); 4 multiply-adds an
// element of dy are a tenth of that. Considered: rows first, into the workspace, then columns: fewer
// multiply-adds where a map grows much, but they are not what it waits for. Left: where crops
// cover a small part of a map, work for more threads than there are packs in it.
#include "cuda/adjoint.cuh"

namespace glnet::cuda {
namespace {

struct Backward {
  int64_t lines;      ///< rows of dx, of all maps
  int height, width;  ///< of dx
  int channels;
  int crop_height, crop_width;  ///< the whole map where there are no crops
  int64_t patch_stride;         ///< of dy, in elements
  bool cropped;
};

/// dx: [lines, width, channels] = so_far, which may be dx or null, + what `count` patches give. Without crops
/// each map has one patch.
template <int kLanes>
__global__ void __launch_bounds__(kThreads, 3)
    crop_resize_backward_kernel(const float* dy, const float* so_far, float* dx, AdjointAxis rows,
                                AdjointAxis columns, Backward b, int count, Corners corners) {
  const int64_t dy_row = static_cast<int64_t>(columns.outputs) * b.channels;
  const int packs = b.channels / kLanes, tiles = row_tiles(b.width, packs);
  const TileShare share(packs);
  if (share.pixel >= share.pixels) return;
  const auto count_of_tiles = static_cast<int>(b.lines) * tiles, step = static_cast<int>(gridDim.x);
  for (auto tile = static_cast<int>(blockIdx.x); tile < count_of_tiles; tile += step) {
    const int line = tile / tiles, map = line / b.height, row = line % b.height;
    const int column = tile % tiles * share.pixels + share.pixel;
    if (column >= b.width) continue;
    for (int pack = share.first; pack < packs; pack += kThreads) {
      const int64_t element = (static_cast<int64_t>(line) * b.width + column) * b.channels + pack * kLanes;
      Lanes<float, kLanes> total{};
      if (so_far) total = read_lanes<float, kLanes>(so_far + element);
      for (int n = 0; n < count; ++n) {
        const int r = b.cropped ? row - corners.tops[n] : row;
        const int s = b.cropped ? column - corners.lefts[n] : column;
        if (r < 0 || r >= b.crop_height || s < 0 || s >= b.crop_width) continue;
        const float* patch = dy + (b.cropped ? n : map) * b.patch_stride + pack * kLanes;
        const Span down = rows.spans[r], across = columns.spans[s];
        const float* row_weights = rows.weights + static_cast<int64_t>(r) * rows.outputs;
        const float* column_weights = columns.weights + static_cast<int64_t>(s) * columns.outputs;
        float value[kLanes] = {};
        for (int v = down.begin; v < down.end; ++v) {
          const float* from = patch + v * dy_row;
          float part[kLanes] = {};
          UNROLL_BY(4)
          for (int u = across.begin; u < across.end; ++u) {
            const Lanes<float, kLanes> given =
                read_lanes<float, kLanes>(from + static_cast<int64_t>(u) * b.channels);
            const float weight = column_weights[u];
            UNROLL
            for (int i = 0; i < kLanes; ++i) part[i] += weight * given.v[i];
          }
          const float weight = row_weights[v];
          UNROLL
          for (int i = 0; i < kLanes; ++i) value[i] += weight * part[i];
        }
        UNROLL
        for (int i = 0; i < kLanes; ++i) total.v[i] += value[i];
      }
      write_lanes(dx + element, total.v);
    }
  }
}

AdjointTables tables(const CropResizeBackward& op, size_t axis) {
  return AdjointTables(chain_of(op.kName, op.source, axis));
}

}  // namespace

void prepare_crop_resize_backward(const CropResizeBackward& op, Prepare& prepare) {
  check_dtype(op.kName, "dy", op.dy, DType::float32);
  prepare.workspace(tables(op, 0).bytes() + tables(op, 1).bytes());
}

void crop_resize_backward(const CropResizeBackward& op, const Context& context) {
  const MapGeometry& s = op.source;
  auto* memory = static_cast<std::byte*>(context.workspace);
  const AdjointAxis rows = tables(op, 0).fill(context, memory);
  const AdjointAxis columns = tables(op, 1).fill(context, memory + tables(op, 0).bytes());
  const Backward b{.lines = op.dx.dim(0) * op.dx.dim(1),
                   .height = static_cast<int>(op.dx.dim(1)),
                   .width = static_cast<int>(op.dx.dim(2)),
                   .channels = static_cast<int>(op.dx.dim(3)),
                   .crop_height = static_cast<int>(s.base_height()),
                   .crop_width = static_cast<int>(s.base_width()),
                   .patch_stride = op.dy.size() / op.dy.dim(0),
                   .cropped = s.cropped()};
  const float* so_far = op.addend.as<const float>();
  const auto gather = [&](int64_t first, int64_t count, const Corners& corners) {
    with_lanes<kWideLanes<float>>(b.channels, [&](auto lanes) {
      launch(crop_resize_backward_kernel<lanes>, blocks_for_tiles(b.lines, b.width, b.channels / lanes),
             kThreads, 0, stream_of(context), op.dy.as<const float>() + first * b.patch_stride, so_far,
             op.dx.as<float>(), rows, columns, b, static_cast<int>(count), corners);
    });
    so_far = op.dx.as<const float>();
  };
  if (!s.cropped()) return gather(0, 1, Corners{});
  for_each_corners(s.tops, s.lefts, gather);
}

}  // namespace glnet::cuda
