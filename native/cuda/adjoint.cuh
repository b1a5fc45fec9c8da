// The adjoint of bilinear resizes along an axis: what each source position gave to which output positions.
//
// A thread a source position: which outputs read it, a run of them since resizes keep the order, is found by
// bisection in the taps of resample.cuh, and their weights are written next to each other.
#pragma once

#include "cuda/resample.cuh"

namespace glnet::cuda {

/// Output positions begin ... end of which those that read a source position are.
struct Span {
  int begin, end;
};

/// spans: [source length]; weights: [source length, outputs], written within the spans.
static __global__ void spans_kernel(const Tap* taps, int length, int outputs, int slots, Span* spans,
                                    float* weights) {
  for (int64_t i = first_item(); i < length; i += item_step()) {
    // The first output that reads position `at` or one behind it, or else none before it.
    const auto first = [&](int64_t at, bool any) {
      int low = 0, high = outputs;
      while (low < high) {
        const int middle = (low + high) / 2;
        const Tap* tap = taps + static_cast<int64_t>(middle) * slots;
        bool reached = !any;
        for (int t = 0; t < slots && tap[t].weight != 0; ++t) {
          if (any && tap[t].index >= at) reached = true;
          if (!any && tap[t].index < at) reached = false;
        }
        if (reached) {
          high = middle;
        } else {
          low = middle + 1;
        }
      }
      return low;
    };
    const Span span{first(i, true), first(i + 1, false)};
    spans[i] = span;
    for (int output = span.begin; output < span.end; ++output) {
      const Tap* tap = taps + static_cast<int64_t>(output) * slots;
      float weight = 0;
      for (int t = 0; t < slots && tap[t].weight != 0; ++t) {
        if (tap[t].index == i) weight += tap[t].weight;
      }
      weights[i * outputs + output] = weight;
    }
  }
}

/// What kernels read of an axis.
struct AdjointAxis {
  const Span* spans;
  const float* weights;
  int outputs;
};

/// Where an axis' tables lie in memory; `bytes` of them.
struct AdjointTables {
  explicit AdjointTables(const Chain& chain)
      : chain(chain),
        spans(static_cast<size_t>(chain.lengths[0]) * sizeof(Span)),
        weights(static_cast<size_t>(chain.lengths[0]) * static_cast<size_t>(chain.outputs()) *
                sizeof(float)) {}

  size_t bytes() const { return chain.bytes() + spans + (weights + 7) / 8 * 8; }

  /// Writes the tables to `memory`, aligned to 8 bytes.
  AdjointAxis fill(const Context& context, std::byte* memory) const {
    auto* taps = reinterpret_cast<Tap*>(memory);
    auto* to_spans = reinterpret_cast<Span*>(memory + chain.bytes());
    auto* to_weights = reinterpret_cast<float*>(memory + chain.bytes() + spans);
    fill_taps(context, chain, taps);
    launch(spans_kernel, blocks_for(chain.lengths[0]), kThreads, 0, stream_of(context), taps,
           chain.lengths[0], chain.outputs(), chain.slots(), to_spans, to_weights);
    return {to_spans, to_weights, chain.outputs()};
  }

  Chain chain;
  size_t spans, weights;  ///< bytes
};

}  // namespace glnet::cuda
