// concat: joins maps along their channels.
//
// Threads: one launch for each input; a thread copies 16 bytes of it where all channels come in whole such
// packs, or else an element, channels fastest, so that a warp reads one contiguous run and writes runs of the
// input's channels. Moves each element in and out once. Floor, for
// two maps of 127x127x256 in float32, 66 MB: 20 us on an H100 (3.35 TB/s), 65 us on an RTX 4090 (1.01 TB/s).
// Considered: one launch for all inputs, which saves a few microseconds a launch and has every thread look
// for its input. aggregate_conv takes the inputs as they are, so that no large concatenation is ever built.
#include "cuda/lanes.cuh"

namespace glnet::cuda {
namespace {

/// x: [pixels, channels]; y: [pixels, all], of which the channels from `first` are written; all in packs T, n
/// of them.
template <class T>
__global__ void concat_kernel(const T* x, T* y, int64_t n, int64_t channels, int64_t all, int64_t first) {
  for (int64_t i = first_item(); i < n; i += item_step()) y[i / channels * all + first + i % channels] = x[i];
}

template <class T>
void join(const Concat& op, const Context& context) {
  int64_t first = 0;
  for (const In& x : op.inputs) {
    const int64_t channels = x.dim(3), all = op.y.dim(3);
    with_lanes<kWideLanes<T>>(channels | all | first, [&](auto lanes) {
      using Pack = Lanes<T, lanes>;
      const int64_t n = x.size() / lanes;
      launch(concat_kernel<Pack>, blocks_for(n), kThreads, 0, stream_of(context), x.as<const Pack>(),
             op.y.as<Pack>(), n, channels / lanes, all / lanes, first / lanes);
    });
    first += x.dim(3);
  }
}

}  // namespace

void concat(const Concat& op, const Context& context) {
  with_bits(op.kName, op.y.dtype, [&](auto t) { join<decltype(t)>(op, context); });
}

}  // namespace glnet::cuda
