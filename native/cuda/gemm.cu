// The matrix product of a convolution: pixels of the output, by its channels, by channels and taps of the
// input. The left matrix is never built: its elements are read from NHWC maps where a tap meets them, zero
// where it steps outside. The right one is read from weights as checkpoints have them, [K, C, kh, kw].
//
// Threads and data: see gemm_kernel.cuh. Channels and taps are walked through in chunks of 16 channels
// outside, taps inside, so that the strided reads of a chunk's weights meet the same lines tap after tap;
// where there are fewer channels than that, channels and taps together.
//
// bfloat16 is multiplied here where there are no tensor cores for it, else by tensor_gemm.cu. Bytes and
// floors: see conv2d.cu and aggregate_conv.cu.
#include "cuda/gemm_kernel.cuh"

namespace glnet::cuda {

template <class T, class Ending>
void gemm(const Context& context, const Convolution<T>& product, const Ending& ending) {
  multiply(context, product, ending);
}

template void gemm(const Context&, const Convolution<float>&, const Finish<float>&);
template void gemm(const Context&, const Convolution<float>&, const Products&);
template void gemm(const Context&, const Convolution<bfloat16>&, const Finish<bfloat16>&);
template void gemm(const Context&, const Convolution<bfloat16>&, const Products&);

void check_gemm(const char* op, DType dtype, int64_t pixels, int64_t weights) {
  with_type(op, dtype, [](auto) {});
  check(pixels < INT32_MAX / 2 && weights < INT32_MAX, op,
        ": CUDA takes at most 2^30 pixels and 2^31 weights, ", "and there are ", pixels, " and ", weights);
}

}  // namespace glnet::cuda
