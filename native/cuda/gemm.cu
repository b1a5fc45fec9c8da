// The matrix product of a convolution: pixels of the output, by its channels, by channels and taps of the
// input. The left matrix is never built: its elements are read from NHWC maps where a tap meets them, zero
// where it steps outside. The right one is read from weights as checkpoints have them, [K, C, kh, kw].
//
// Threads and data: see gemm_kernel.cuh. Channels and taps are walked through in chunks of 16 channels
// outside, taps inside, so that the strided reads of a chunk's weights meet the same lines tap after tap;
// where there are fewer channels than that, channels and taps together.
//
// With GLNET_TENSOR_CORES in the environment bfloat16 is multiplied by tensor cores if it is 1, never if it
// is 0; by default it is where the device has them, but not on the emulator. Bytes and floors: see conv2d.cu
// and aggregate_conv.cu.
#include <cstdlib>
#include <cstring>

#include "cuda/gemm_kernel.cuh"

namespace glnet::cuda {
namespace {

/// What GLNET_TENSOR_CORES says: 0, 1, or -1 for nothing. Read once, on the first call.
int wanted_tensor_cores() {
  static const int wanted = [] {
    const char* text = std::getenv("GLNET_TENSOR_CORES");
    if (text && !std::strcmp(text, "0")) return 0;
    return text && !std::strcmp(text, "1") ? 1 : -1;
  }();
  return wanted;
}

}  // namespace

template <class T, class Ending>
void gemm(const Context& context, const Convolution<T>& product, const Ending& ending) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    if (tensor_cores(wanted_tensor_cores(), gemm_kernel<TensorTile<2, 4, 2, 1>, Convolution<T>, Ending>)) {
      if (product.columns() <= kNarrow) {
        return launch_gemm<TensorTile<4, 2, 2, 1>>(context, product, ending);
      }
      if (fills_large_tiles(product, 1)) {
        return launch_gemm<TensorTile<2, 4, 4, 2>>(context, product, ending);
      }
      return launch_gemm<TensorTile<2, 4, 2, 1>>(context, product, ending);
    }
  }
  multiply(context, product, ending);
}

template void gemm(const Context&, const Convolution<float>&, const Finish<float>&);
template void gemm(const Context&, const Convolution<float>&, const Products&);
template void gemm(const Context&, const Convolution<bfloat16>&, const Finish<bfloat16>&);
template void gemm(const Context&, const Convolution<bfloat16>&, const Products&);

void check_gemm(const char* op, DType dtype, int64_t pixels, int64_t weights) {
  wanted_tensor_cores();
  with_type(op, dtype, [](auto) {});
  check(pixels < INT32_MAX / 2 && weights < INT32_MAX, op,
        ": CUDA takes at most 2^30 pixels and 2^31 weights, ", "and there are ", pixels, " and ", weights);
}

}  // namespace glnet::cuda
