// crop_resize: global to local sharing. Each patch's crop of a map, resized bilinearly; several side by side.
//
// Threads and data: see resample.cuh. Moves each output element out once; the crops, which are small and
// overlap, come from memory once and then from the caches, four reads an output element. Floor, for 6 crops
// of 26x26x256 to 127x127 in float32, 99 MB: 30 us on an H100 (3.35 TB/s), 98 us on an RTX 4090 (1.01 TB/s);
// 4 multiply-adds an output element are a tenth of that. A window of 3x135 pixels of each, 1.2 MB in bfloat16
// from 306 blocks, one round of the card, takes two launches and three trips to memory: 6 us on an H100.
// Considered: crops in shared memory. 26x26 pixels fit for 64 channels at a time, but the L1 cache does the
// same without a barrier.
#include "cuda/resample.cuh"

namespace glnet::cuda {

void prepare_crop_resize(const CropResize& op, Prepare& prepare) {
  prepare.workspace(resample_bytes(op.kName, op.sources));
}

void crop_resize(const CropResize& op, const Context& context) {
  with_type(op.kName, op.y.dtype,
            [&](auto t) { resample<decltype(t)>(op.kName, context, op.sources, op.y); });
}

}  // namespace glnet::cuda
