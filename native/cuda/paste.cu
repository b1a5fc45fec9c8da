// paste: a map written over a part of a larger one, or added to it.
//
// Threads: a thread takes 16 bytes of a pixel's channels where they come in whole such packs, or else an
// element, channels fastest, so that a warp reads and writes contiguous runs of a row; of a transposed x,
// runs of a pixel's channels. Moves each element of x in and out once, and when adding, reads y too. Floor,
// for 6 strips of 3x127x7 in float32, 64 KB in and out: the launch.
#include "cuda/lanes.cuh"

namespace glnet::cuda {
namespace {

/// Sizes of the part, strides, in packs of channels, of x and y, and where in y it lies, see position_of.
struct Part {
  int64_t height, width, channels;
  int64_t x_row, x_column;
  int64_t y_map, y_row;
  int top, left, skip_rows, skip_columns;
};

/// x: n packs.
template <class T, int kLanes, bool kAdd>
__global__ void paste_kernel(const Lanes<T, kLanes>* x, Lanes<T, kLanes>* y, int64_t n, Part part) {
  const int64_t map = part.height * part.width * part.channels;
  for (int64_t i = first_item(); i < n; i += item_step()) {
    const int64_t c = i % part.channels, pixel = i / part.channels;
    const int64_t column = pixel % part.width, row = pixel / part.width % part.height;
    const Lanes<T, kLanes> value = x[i / map * map + row * part.x_row + column * part.x_column + c];
    const int64_t y_row = position_of(row, part.top, part.height, part.skip_rows),
                  y_column = position_of(column, part.left, part.width, part.skip_columns);
    Lanes<T, kLanes>& to = y[i / map * part.y_map + y_row * part.y_row + y_column * part.channels + c];
    if constexpr (kAdd) {
      Lanes<T, kLanes> sum = to;
      UNROLL
      for (int j = 0; j < kLanes; ++j) {
        sum.v[j] = T(static_cast<float>(sum.v[j]) + static_cast<float>(value.v[j]));
      }
      to = sum;
    } else {
      to = value;
    }
  }
}

template <class T, bool kAdd>
void paste_part(const Paste& op, const Context& context) {
  with_lanes<kWideLanes<T>>(op.x.dim(3), [&](auto lanes) {
    using Pack = Lanes<T, lanes>;
    const int64_t channels = op.x.dim(3) / lanes, y_row = op.y.dim(2) * channels;
    const int64_t across = op.x.dim(2) * channels, n = op.x.size() / lanes;
    const Part part{op.height(),
                    op.width(),
                    channels,
                    op.transposed ? channels : across,
                    op.transposed ? across : channels,
                    op.y.dim(1) * y_row,
                    y_row,
                    op.top,
                    op.left,
                    op.skip_rows,
                    op.skip_columns};
    launch(paste_kernel<T, lanes, kAdd>, blocks_for(n), kThreads, 0, stream_of(context),
           op.x.as<const Pack>(), op.y.as<Pack>(), n, part);
  });
}

}  // namespace

void paste(const Paste& op, const Context& context) {
  if (op.add) {
    with_type(op.kName, op.y.dtype, [&](auto t) { paste_part<decltype(t), true>(op, context); });
    return;
  }
  with_bits(op.kName, op.y.dtype, [&](auto t) { paste_part<decltype(t), false>(op, context); });
}

}  // namespace glnet::cuda
