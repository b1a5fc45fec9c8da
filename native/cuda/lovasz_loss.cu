// lovasz_loss: the Lovász-Softmax loss and its gradient with respect to the logits.
//
// 1. Every pixel's softmax, in the place of its gradient, and for each class an item of 64 bits: the error,
// so
//    that larger ones come first, and the pixel. Pixels that do not count, and those that fill up the next
//    power of two, come last.
// 2. A bitonic sort of every class's items, all classes in the same launches: runs of kRun items in shared
//    memory, then steps over global memory while partners are further apart. Items differ in their pixels, so
//    there is one order only.
// 3. How many items of each chunk of kThreads are of the class; then a block a chunk adds those before it,
// ranks
//    its own by ballots, and writes slopes and parts of the loss.
// 4. One block adds the parts, a thread a class; then a thread a pixel makes gradients of probabilities.
// No atomics, and the same bits each time.
//
// Floor, for 6 patches of 127x127x7 in float32, 2^17 items a class: 45 launches of the sort, each of which
// moves 7.3 MB in and out of the L2 cache, some 0.3 ms on any card. Left: a radix sort in four passes.
#include "cuda/pixel_loss.cuh"

namespace glnet::cuda {
namespace {

using Item = unsigned long long;

constexpr int kRun = 2 * kThreads;          ///< items that a block sorts in shared memory
constexpr Item kNone = ~Item{0};            ///< comes last
constexpr unsigned kOne = 0x3f800000u;      ///< the bits of 1.0f
constexpr unsigned kNotANumber = kOne + 1;  ///< instead of an error's key

__device__ Item make_item(float error, int64_t pixel) {
  const unsigned key = error != error ? kNotANumber : kOne - std::bit_cast<unsigned>(std::min(error, 1.0f));
  return static_cast<Item>(key) << 32 | static_cast<Item>(pixel);
}
__device__ float error_in(Item item) {
  const auto key = static_cast<unsigned>(item >> 32);
  return key == kNotANumber ? NAN : std::bit_cast<float>(kOne - key);
}
__device__ int64_t pixel_of(Item item) {
  return static_cast<int64_t>(item & 0xffffffffu);
}

/// kLanes threads a pixel. softmax: 0 where the label does not count; items: [classes, length].
template <int kLanes>
__global__ void __launch_bounds__(kThreads, 4)
    predict_kernel(const float* logits, float* softmax, int64_t pixels, Labels labels, Item* items,
                   int64_t length) {
  const int classes = labels.classes, lane = static_cast<int>(threadIdx.x) % kLanes;
  for (int64_t i = first_item() / kLanes; i < length; i += item_step() / kLanes) {
    const int label = i < pixels ? labels.at(i) : -1;
    if (label < 0) {
      for (int k = lane; k < classes; k += kLanes) {
        if (i < pixels) softmax[i * classes + k] = 0;
        items[k * length + i] = kNone;
      }
      continue;
    }
    const float* values = logits + i * classes;
    const PixelSoftmax of = softmax_of<kLanes>(values, classes, label, lane);
    for (int k = lane; k < classes; k += kLanes) {
      const float s = k == label ? of.p : of(values[k]);
      softmax[i * classes + k] = s;
      items[k * length + i] = make_item(k == label ? of.q : s, i);
    }
  }
}

/// Whether the sorted run of `size` items to which item i of all classes belongs is an ascending one.
__device__ bool ascends(int64_t i, int64_t size, int64_t length) {
  return (i & (length - 1) & size) == 0;
}

/// The steps of the sort from runs of `from` items to runs of `to` in which partners are at most kThreads
/// apart. Runs of `from` that are larger than kRun have had their steps before.
__global__ void __launch_bounds__(kThreads)
    sort_runs_kernel(Item* items, int64_t count, int64_t length, int64_t from, int64_t to) {
  SHARED_ARRAY(Item, run, kRun);
  const auto thread = static_cast<int>(threadIdx.x);
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * kRun; first < count;
       first += static_cast<int64_t>(gridDim.x) * kRun) {
    for (int i = thread; i < kRun; i += kThreads) run[i] = items[first + i];
    for (int64_t size = from; size <= to; size *= 2) {
      for (auto apart = static_cast<int>(std::min<int64_t>(size / 2, kThreads)); apart > 0; apart /= 2) {
        __syncthreads();
        const int i = thread / apart * 2 * apart + thread % apart;
        const Item a = run[i], b = run[i + apart];
        if ((a > b) == ascends(first + i, size, length)) {
          run[i] = b;
          run[i + apart] = a;
        }
      }
    }
    __syncthreads();
    for (int i = thread; i < kRun; i += kThreads) {
      const Item item = run[i];
      items[first + i] = item;
    }
    // The next run overwrites this one.
    __syncthreads();
  }
}

/// One step of the sort, with partners `apart`.
__global__ void sort_step_kernel(Item* items, int64_t pairs, int64_t length, int64_t size, int64_t apart) {
  for (int64_t pair = first_item(); pair < pairs; pair += item_step()) {
    const int64_t i = pair / apart * 2 * apart + pair % apart;
    const Item a = items[i], b = items[i + apart];
    if ((a > b) == ascends(i, size, length)) {
      items[i] = b;
      items[i + apart] = a;
    }
  }
}

/// counts: [classes, length / kThreads], the items of each chunk whose label is the class.
__global__ void __launch_bounds__(kThreads)
    count_kernel(const Item* items, int64_t chunks, int64_t length, Labels labels, int* counts) {
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const Item item = items[chunk * kThreads + threadIdx.x];
    const bool own = item != kNone && labels.at(pixel_of(item)) == chunk * kThreads / length;
    const int count = block_reduce(static_cast<int>(own), Plus{});
    if (threadIdx.x == 0) counts[chunk] = count;
  }
}

/// slopes: [classes, length] by pixel, of the sum of weight * error over a class; losses: [chunks], parts of
/// that sum; occurring: [classes].
__global__ void __launch_bounds__(kThreads)
    weigh_kernel(const Item* items, int64_t chunks, int64_t length, Labels labels, const int* counts,
                 float* slopes, double* losses, int* occurring) {
  constexpr int kWarps = kThreads / 32;
  SHARED_ARRAY(int, warp_counts, kWarps);
  const auto thread = static_cast<int>(threadIdx.x);
  const int lane = thread % warpSize, warp = thread / warpSize;
  const int64_t class_chunks = length / kThreads;
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const int64_t k = chunk / class_chunks, first_chunk = k * class_chunks;
    int before = 0, all = 0;
    for (int64_t i = first_chunk + thread; i < first_chunk + class_chunks; i += kThreads) {
      all += counts[i];
      if (i < chunk) before += counts[i];
    }
    before = block_reduce(before, Plus{});
    all = block_reduce(all, Plus{});
    const Item item = items[chunk * kThreads + thread];
    const bool own = item != kNone && labels.at(pixel_of(item)) == k;
    const unsigned ballot = __ballot_sync(0xffffffffu, own);
    if (lane == 0) warp_counts[warp] = __popc(ballot);
    __syncthreads();
    before += __popc(ballot & ((1u << lane) - 1));
    for (int i = 0; i < warp; ++i) {
      const int some = warp_counts[i];
      before += some;
    }
    double loss = 0;
    if (item != kNone) {
      const auto others = static_cast<float>((chunk - first_chunk) * kThreads + thread - before);
      const float total = static_cast<float>(all) + others;
      float weight = own ? 1 / total : static_cast<float>(all - before) / total / (total + 1);
      if (all == 0) weight = 0;
      slopes[k * length + pixel_of(item)] = own ? -weight : weight;
      if (all > 0) loss = static_cast<double>(weight) * error_in(item);
    }
    loss = block_reduce(loss, Plus{});
    if (thread == 0) {
      losses[chunk] = loss;
      if (chunk == first_chunk) occurring[k] = all;
    }
  }
}

/// One block. factor: scale / the classes that occur.
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const double* losses, int64_t chunks, const int* occurring, int classes, float scale,
                  float* factor, float* loss, int* valid) {
  double sum = 0;
  for (int64_t i = first_item(); i < chunks; i += item_step()) sum += losses[i];
  sum = block_reduce(sum, Plus{});
  const auto k = static_cast<int>(threadIdx.x);
  const int pixels = k < classes ? occurring[k] : 0;
  const int present = block_reduce(static_cast<int>(pixels > 0), Plus{}),
            count = block_reduce(pixels, Plus{});
  if (k > 0) return;
  const double each = present ? static_cast<double>(scale) / present : 0;
  *factor = static_cast<float>(each);
  *loss = static_cast<float>(each * sum);
  *valid = count;
}

__global__ void gradient_kernel(float* softmax, int64_t pixels, Labels labels, const float* slopes,
                                int64_t length, const float* factor, const float* loss) {
  const float each = *factor, poison = *loss - *loss;  // 0, or NaN
  for (int64_t i = first_item(); i < pixels; i += item_step()) {
    if (labels.at(i) < 0) continue;
    softmax_backward(softmax + i * labels.classes, labels.classes,
                     [=](int k) { return static_cast<double>(each * slopes[k * length + i] + poison); });
  }
}

/// The parts of the workspace.
struct Workspace {
  int64_t length;  ///< items of a class, a power of two
  int64_t chunks;  ///< of kThreads items, of all classes
  Item* items;
  double* losses;  ///< [chunks]
  float* slopes;   ///< [classes, length]
  int* counts;     ///< [chunks]
  int* occurring;  ///< [classes]
  float* factor;   ///< [1]

  explicit Workspace(const LovaszLoss& op, void* memory = nullptr)
      : length(std::max<int64_t>(kRun, std::bit_ceil(static_cast<uint64_t>(op.pixels())))),
        chunks(op.classes() * length / kThreads),
        items(static_cast<Item*>(memory)),
        losses(reinterpret_cast<double*>(items + op.classes() * length)),
        slopes(reinterpret_cast<float*>(losses + chunks)),
        counts(reinterpret_cast<int*>(slopes + op.classes() * length)),
        occurring(counts + chunks),
        factor(reinterpret_cast<float*>(occurring + op.classes())) {}

  size_t bytes(const LovaszLoss& op) const {
    return static_cast<size_t>(op.classes() * length) * (sizeof(Item) + sizeof(float)) +
           static_cast<size_t>(chunks) * (sizeof(double) + sizeof(int)) +
           static_cast<size_t>(op.classes()) * sizeof(int) + sizeof(float);
  }
};

void sort(const Workspace& w, int64_t count, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(std::min(count / kRun, kMostBlocks));
  launch(sort_runs_kernel, blocks, kThreads, 0, stream, w.items, count, w.length, 2, kRun);
  for (int64_t size = 2 * kRun; size <= w.length; size *= 2) {
    for (int64_t apart = size / 2; apart > kThreads; apart /= 2) {
      launch(sort_step_kernel, blocks_for(count / 2), kThreads, 0, stream, w.items, count / 2, w.length, size,
             apart);
    }
    launch(sort_runs_kernel, blocks, kThreads, 0, stream, w.items, count, w.length, size, size);
  }
}

}  // namespace

void prepare_lovasz_loss(const LovaszLoss& op, Prepare& prepare) {
  prepare.workspace(Workspace(op).bytes(op));
}

void lovasz_loss(const LovaszLoss& op, const Context& context) {
  static_assert(kThreads >= 256, "a thread a class");
  const int64_t pixels = op.pixels(), classes = op.classes();
  const Labels labels(op);
  const Workspace w(op, context.workspace);
  auto* gradient = op.gradient.as<float>();
  const cudaStream_t stream = stream_of(context);
  const bool few = classes <= kFewClasses;
  launch(few ? predict_kernel<1> : predict_kernel<32>, blocks_for(few ? w.length : 32 * w.length), kThreads,
         0, stream, op.logits.as<const float>(), gradient, pixels, labels, w.items, w.length);
  sort(w, classes * w.length, stream);
  const auto blocks = static_cast<unsigned>(std::min(w.chunks, kMostBlocks));
  launch(count_kernel, blocks, kThreads, 0, stream, w.items, w.chunks, w.length, labels, w.counts);
  launch(weigh_kernel, blocks, kThreads, 0, stream, w.items, w.chunks, w.length, labels, w.counts, w.slopes,
         w.losses, w.occurring);
  launch(finish_kernel, 1, kThreads, 0, stream, w.losses, w.chunks, w.occurring, static_cast<int>(classes),
         op.scale, w.factor, op.loss.as<float>(), op.valid.as<int>());
  launch(gradient_kernel, blocks_for(pixels), kThreads, 0, stream, gradient, pixels, labels, w.slopes,
         w.length, w.factor, op.loss.as<const float>());
}

}  // namespace glnet::cuda
