// dice_loss: the soft Dice loss of softmax probabilities and its gradient with respect to the logits.
//
// Four launches: every pixel's softmax, in the place of its gradient, by a thread or a warp as in
// focal_loss.cu; sums of each class in double, a block a part of the pixels of one class; one block adds the
// parts, a thread a class, and works out the loss and the slopes of classes; a thread a pixel makes gradients
// of probabilities. Sums are taken in a fixed order: no atomics, and the same bits each time.
//
// Moves the logits in, the softmax out, in and in, the gradient out; all but the first stay in the L2 cache.
// Floor, for 6 patches of 127x127x7 in float32, 2.7 MB each, with 40 MB in sectors for the sums of classes: a
// few microseconds on any card; launches take as long. Considered: all classes' sums by one block, which
// moves less and wants a reduction a class in each.
#include "cuda/pixel_loss.cuh"

namespace glnet::cuda {
namespace {

/// Parts in which the pixels are summed, for each class.
int64_t parts_of(int64_t pixels) {
  constexpr int64_t kMost = 64, kPixels = 4 * kThreads;
  return std::min(kMost, (pixels + kPixels - 1) / kPixels);
}

/// What a part of the pixels has of a class: sums over valid pixels. The loss is made of what is wrong,
/// summed by itself, so that nothing cancels where it is almost 0.
struct ClassSums {
  double labelled;      ///< pixels of the class
  double right;         ///< probabilities of the class there
  double missed;        ///< and of the other classes
  double false_alarms;  ///< probabilities of the class elsewhere
};

/// Slopes of the loss with respect to a class's probability in a pixel of another class, and in its own.
struct Slopes {
  double other, own;
};

/// kLanes threads a pixel. softmax: 0 where the label does not count.
template <int kLanes>
__global__ void __launch_bounds__(kThreads, 4)
    predict_kernel(const float* logits, float* softmax, int64_t pixels, Labels labels) {
  const int classes = labels.classes, lane = static_cast<int>(threadIdx.x) % kLanes;
  for (int64_t i = first_item() / kLanes; i < pixels; i += item_step() / kLanes) {
    const float* values = logits + i * classes;
    float* s = softmax + i * classes;
    const int label = labels.at(i);
    if (label < 0) {
      for (int k = lane; k < classes; k += kLanes) s[k] = 0;
      continue;
    }
    const PixelSoftmax of = softmax_of<kLanes>(values, classes, label, lane);
    for (int k = lane; k < classes; k += kLanes) s[k] = k == label ? of.p : of(values[k]);
  }
}

/// parts: [classes, count].
__global__ void __launch_bounds__(kThreads)
    sum_classes_kernel(const float* softmax, int64_t pixels, Labels labels, ClassSums* parts, int64_t count) {
  for (int64_t item = blockIdx.x; item < labels.classes * count; item += gridDim.x) {
    const auto k = static_cast<int>(item / count);
    ClassSums sums{0, 0, 0, 0};
    for (int64_t i = item % count * kThreads + threadIdx.x; i < pixels; i += count * kThreads) {
      const float* s = softmax + i * labels.classes;
      if (labels.at(i) != k) {
        sums.false_alarms += s[k];
        continue;
      }
      sums.labelled += 1;
      sums.right += s[k];
      for (int j = 0; j < labels.classes; ++j) {
        if (j != k) sums.missed += s[j];
      }
    }
    sums.labelled = block_reduce(sums.labelled, Plus{});
    sums.right = block_reduce(sums.right, Plus{});
    sums.missed = block_reduce(sums.missed, Plus{});
    sums.false_alarms = block_reduce(sums.false_alarms, Plus{});
    if (threadIdx.x == 0) parts[item] = sums;
  }
}

/// One block, a thread a class. class_weights may be null.
__global__ void __launch_bounds__(kThreads)
    finish_kernel(const ClassSums* parts, int64_t count, int classes, const float* class_weights,
                  float smooth, float scale, Slopes* slopes, float* loss, int* valid) {
  const auto k = static_cast<int>(threadIdx.x);
  ClassSums sums{0, 0, 0, 0};
  double weight = 0;
  if (k < classes) {
    weight = class_weights ? class_weights[k] : 1;
    for (int64_t part = 0; part < count; ++part) {
      const ClassSums& some = parts[k * count + part];
      sums.labelled += some.labelled, sums.right += some.right;
      sums.missed += some.missed, sums.false_alarms += some.false_alarms;
    }
  }
  const double weights = block_reduce(weight, Plus{});
  const double above = 2 * sums.right + smooth,
               below = sums.right + sums.false_alarms + sums.labelled + smooth;
  const double factor = scale * weight / weights, other = factor * above / (below * below);
  const double total =
      block_reduce(k < classes ? factor * (sums.missed + sums.false_alarms) / below : 0.0, Plus{});
  const double labelled = block_reduce(sums.labelled, Plus{});
  if (k < classes) slopes[k] = {other, other - factor * 2 / below};
  if (k == 0) {
    *loss = static_cast<float>(total);
    *valid = static_cast<int>(labelled);
  }
}

__global__ void gradient_kernel(float* softmax, int64_t pixels, Labels labels, const Slopes* slopes) {
  for (int64_t i = first_item(); i < pixels; i += item_step()) {
    const int label = labels.at(i);
    if (label < 0) continue;
    softmax_backward(softmax + i * labels.classes, labels.classes,
                     [=](int k) { return k == label ? slopes[k].own : slopes[k].other; });
  }
}

}  // namespace

void prepare_dice_loss(const DiceLoss& op, Prepare& prepare) {
  const auto parts = static_cast<size_t>(parts_of(op.pixels()));
  prepare.workspace(static_cast<size_t>(op.classes()) * (parts * sizeof(ClassSums) + sizeof(Slopes)));
}

void dice_loss(const DiceLoss& op, const Context& context) {
  static_assert(kThreads >= 256, "a thread a class");
  const int64_t pixels = op.pixels(), classes = op.classes(), count = parts_of(pixels);
  const Labels labels(op);
  auto* parts = static_cast<ClassSums*>(context.workspace);
  auto* slopes = reinterpret_cast<Slopes*>(parts + classes * count);
  auto* gradient = op.gradient.as<float>();
  const cudaStream_t stream = stream_of(context);
  const bool few = classes <= kFewClasses;
  launch(few ? predict_kernel<1> : predict_kernel<32>, blocks_for(few ? pixels : 32 * pixels), kThreads, 0,
         stream, op.logits.as<const float>(), gradient, pixels, labels);
  launch(sum_classes_kernel, static_cast<unsigned>(std::min(classes * count, kMostBlocks)), kThreads, 0,
         stream, gradient, pixels, labels, parts, count);
  launch(finish_kernel, 1, kThreads, 0, stream, parts, count, static_cast<int>(classes),
         op.class_weights.as<const float>(), op.smooth, op.scale, slopes, op.loss.as<float>(),
         op.valid.as<int>());
  launch(gradient_kernel, blocks_for(pixels), kThreads, 0, stream, gradient, pixels, labels, slopes);
}

}  // namespace glnet::cuda
