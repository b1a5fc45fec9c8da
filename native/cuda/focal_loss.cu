// focal_loss: the focal loss of softmax probabilities and its gradient with respect to the logits.
//
// Four launches: blocks count their valid labels; one block adds the counts; the pixels' gradients and
// losses, a float a block; one block adds these. Sums are taken in a fixed order, pairwise within a warp: no
// atomics, and the same bits each time. With few classes a thread takes a pixel and goes through its logits
// three times (largest, sum, gradient), which lie in the L1 cache after the first; with many a warp does.
//
// Moves each logit in and its gradient out once, and a label a pixel, in sectors of 32 bytes. Floor, for 6
// patches of 127x127x7 in float32 with labels of 508x508, 5.4 MB and 0.4 MB: 1.7 us on an H100 (3.35 TB/s),
// 5.7 us on an RTX 4090 (1.01 TB/s): launches take as long. 1.4 million exponentials and 0.3 million
// logarithms and powers are less than 1 us.
// Considered: the running maximum and sum of one pass, which saves a pass over the cache, not over memory;
// counting in the pass over the logits, which would scale the gradient in another pass. Left: adding the
// parts in the last block to finish, two launches less.
#include "cuda/pixel_loss.cuh"

namespace glnet::cuda {
namespace {

/// counts: how many labels of each block's pixels count.
__global__ void __launch_bounds__(kThreads) count_kernel(Labels labels, int64_t pixels, int* counts) {
  int count = 0;
  for (int64_t i = first_item(); i < pixels; i += item_step()) count += labels.at(i) >= 0;
  count = block_reduce(count, Plus{});
  if (threadIdx.x == 0) counts[blockIdx.x] = count;
}

/// One block.
template <class T>
__global__ void __launch_bounds__(kThreads) sum_kernel(const T* parts, int64_t n, T* sum) {
  T total = 0;
  for (int64_t i = first_item(); i < n; i += item_step()) total += parts[i];
  total = block_reduce(total, Plus{});
  if (threadIdx.x == 0) *sum = total;
}

struct Settings {
  float gamma, scale;
  const float* class_weights;  ///< may be null
};

/// kLanes threads a pixel, 1 or a warp. losses: the sum over each block's pixels. Four blocks to a processor:
/// see stitch_kernel.
template <int kLanes, class T>
__global__ void __launch_bounds__(kThreads, 4)
    focal_kernel(const T* logits, T* gradient, int64_t pixels, Labels labels, Settings settings,
                 const int* valid, float* losses) {
  constexpr float kLeast = FocalLoss::kLeast;
  const int classes = labels.classes, lane = static_cast<int>(threadIdx.x) % kLanes;
  const float factor = *valid > 0 ? settings.scale / static_cast<float>(*valid) : 0.0f;
  float loss = 0;
  for (int64_t i = first_item() / kLanes; i < pixels; i += item_step() / kLanes) {
    const T* values = logits + i * classes;
    T* slopes = gradient + i * classes;
    const int label = labels.at(i);
    if (label < 0) {
      for (int k = lane; k < classes; k += kLanes) slopes[k] = T(0.0f);
      continue;
    }
    const PixelSoftmax softmax = softmax_of<kLanes>(values, classes, label, lane);
    const float p = softmax.p, q = softmax.q;
    const bool low = p < kLeast, high = q < kLeast;
    const float weight = settings.class_weights ? settings.class_weights[label] : 1.0f;
    const float clamped_p = low    ? kLeast
                            : high ? 1 - kLeast
                                   : p,
                clamped_q = high  ? kLeast
                            : low ? 1 - kLeast
                                  : q;
    const float minus_log = clamped_q < 0.5f ? -log1pf(-clamped_q) : -logf(clamped_p);
    const float power = powf(clamped_q, settings.gamma);
    if (lane == 0) loss += factor * weight * power * minus_log;
    const float g = power * (1 + settings.gamma * clamped_p * minus_log / clamped_q);
    const float slope = low || high ? 0.0f : factor * weight * g;
    for (int k = lane; k < classes; k += kLanes) {
      slopes[k] = T(slope * (k == label ? -q : softmax(static_cast<float>(values[k]))));
    }
  }
  loss = block_reduce(loss, Plus{});
  if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}

}  // namespace

void prepare_focal_loss(const FocalLoss&, Prepare& prepare) {
  // Counts, then losses of blocks.
  prepare.workspace(static_cast<size_t>(kMostBlocks) * sizeof(float));
}

void focal_loss(const FocalLoss& op, const Context& context) {
  static_assert(sizeof(int) == sizeof(float));
  const int64_t pixels = op.pixels(), classes = op.classes();
  const Labels labels(op);
  auto* counts = static_cast<int*>(context.workspace);
  launch(count_kernel, blocks_for(pixels), kThreads, 0, stream_of(context), labels, pixels, counts);
  launch(sum_kernel<int>, 1, kThreads, 0, stream_of(context), counts, blocks_for(pixels), op.valid.as<int>());
  auto* losses = static_cast<float*>(context.workspace);
  const Settings settings{op.gamma, op.scale, op.class_weights.as<const float>()};
  const bool few = classes <= kFewClasses;
  const unsigned blocks = blocks_for(few ? pixels : 32 * pixels);
  with_type(op.kName, op.logits.dtype, [&](auto t) {
    using T = decltype(t);
    launch(few ? focal_kernel<1, T> : focal_kernel<32, T>, blocks, kThreads, 0, stream_of(context),
           op.logits.as<const T>(), op.gradient.as<T>(), pixels, labels, settings, op.valid.as<const int>(),
           losses);
  });
  launch(sum_kernel<float>, 1, kThreads, 0, stream_of(context), losses, blocks, op.loss.as<float>());
}

}  // namespace glnet::cuda
