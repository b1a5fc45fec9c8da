// paste: a map written over a part of a larger one.
//
// Threads: a thread copies elements of x, channels fastest, so that a warp reads and writes contiguous runs
// of a row. Moves each element of x in and out once. Floor, for 6 strips of 3x127x7 in float32, 64 KB in and
// out: the launch.
#include "cuda/common.cuh"

namespace glnet::cuda {
namespace {

/// x: rows of `elements`, `height` of them a map; y: rows of `stride` elements, `y_height` of them a map.
template <class T>
__global__ void paste_kernel(const T* x, T* y, int64_t n, int64_t elements, int64_t height, int64_t stride,
                             int64_t y_height) {
  for (int64_t i = first_item(); i < n; i += item_step()) {
    const int64_t row = i / elements;
    y[(row / height * y_height + row % height) * stride + i % elements] = x[i];
  }
}

template <class T>
void copy_part(const Paste& op, const Context& context) {
  const int64_t channels = op.x.dim(3), stride = op.y.dim(2) * channels;
  launch(paste_kernel<T>, blocks_for(op.x.size()), kThreads, 0, stream_of(context), op.x.as<const T>(),
         op.y.as<T>() + op.top * stride + op.left * channels, op.x.size(), op.x.dim(2) * channels,
         op.x.dim(1), stride, op.y.dim(1));
}

}  // namespace

void paste(const Paste& op, const Context& context) {
  switch (size_of(op.y.dtype)) {
    case 1:
      return copy_part<uint8_t>(op, context);
    case 2:
      return copy_part<uint16_t>(op, context);
    case 4:
      return copy_part<uint32_t>(op, context);
    default:
      fail(ErrorCode::invalid_argument, op.kName, ": CUDA does not compute in ", name_of(op.y.dtype));
  }
}

}  // namespace glnet::cuda
