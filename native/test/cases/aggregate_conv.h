#pragma once

#include <utility>

#include "test/harness.h"

namespace glnet::test {

/// A source of [batch, height, width, channels]; no tops, no crop.
struct SourceSizes {
  Shape x;
  std::vector<int> tops, lefts;
  int crop_height, crop_width;
  std::vector<int> sizes;
  std::vector<int> window = {};  ///< top, left, height, width, rows and columns skipped; or none
};

inline SourceSizes whole(Shape x, std::vector<int> sizes = {}) {
  return {std::move(x), {}, {}, 0, 0, std::move(sizes)};
}
inline SourceSizes crops(Shape x, std::vector<int> tops, std::vector<int> lefts, int height, int width,
                         std::vector<int> sizes = {}) {
  return {std::move(x), std::move(tops), std::move(lefts), height, width, std::move(sizes)};
}

inline SourceSizes window(SourceSizes source, int top, int left, int height, int width, int skip_rows = 0,
                          int skip_columns = 0) {
  source.window = {top, left, height, width, skip_rows, skip_columns};
  return source;
}

/// What is added to the sum of the sources, and done to it.
enum Ending { kPlain = 0, kBias = 1, kAddend = 2, kRelu = 4, kOverwrite = 8 };

struct AggregateSizes {
  std::vector<SourceSizes> sources;
  int64_t outputs, kernel;
  int ending;  ///< of the bits of Ending
  int first;
  int rest;  ///< channels of the weight after the last source
};

inline AggregateConv random_aggregate_conv(Builder& b, const AggregateSizes& a) {
  AggregateConv op;
  int64_t channels = a.first + a.rest;
  for (const SourceSizes& s : a.sources) {
    GridSource source;
    source.x = {b.tensor(s.x)};
    source.tops = s.tops;
    source.lefts = s.lefts;
    source.crop_height = s.crop_height;
    source.crop_width = s.crop_width;
    source.sizes = s.sizes;
    if (const auto& w = s.window; !w.empty()) source.set_window(w[0], w[1], w[2], w[3], w[4], w[5]);
    channels += s.x[3];
    op.sources.push_back(source);
  }
  op.weight = {b.tensor({a.outputs, channels, a.kernel, a.kernel})};
  op.first = a.first;
  op.relu = a.ending & kRelu;
  if (a.ending & kBias) op.bias = {b.floats({a.outputs})};
  op.infer();
  if (a.ending & (kAddend | kOverwrite)) op.addend = {b.tensor(op.y.shape)};
  op.overwrite = a.ending & kOverwrite;
  return op;
}

/// What `infer` must refuse: a good op, spoilt.
inline std::function<AggregateConv(Builder&)> spoilt(std::function<void(AggregateConv&, Builder&)> spoil) {
  return [=](Builder& b) {
    AggregateConv op = random_aggregate_conv(
        b, {{whole({2, 8, 8, 3}), crops({1, 9, 9, 5}, {0, 5}, {1, 2}, 4, 4, {8, 8})}, 7, 3, kPlain, 0, 0});
    spoil(op, b);
    return op;
  };
}

inline void aggregate_conv_cases(Suite& suite) {
  const auto add = [&](const std::string& name, std::vector<SourceSizes> sources, int64_t outputs,
                       int64_t kernel, int ending = kPlain, int first = 0, int rest = 0) {
    const AggregateSizes a{std::move(sources), outputs, kernel, ending, first, rest};
    // The CPU takes Winograd's algorithm for these, with larger errors: see limits_of.
    const Limits limits = kernel == 9 ? Limits{.float32 = 2e-12, .narrow = 24} : Limits{};
    suite.add<AggregateConv>(name, [=](Builder& b) { return random_aggregate_conv(b, a); }, limits);
  };
  // Few outputs and many: the taps pay on the target's own grid, or do not.
  for (const int64_t outputs : {1, 2, 7, 21, 64}) {
    for (const int64_t kernel : {1, 3, 5}) {
      const std::string with = ", kernel " + std::to_string(kernel) + ", to " + std::to_string(outputs);
      add("identity" + with, {whole({2, 13, 11, 31})}, outputs, kernel, kBias, 2, 1);
      add("upsampled" + with, {whole({1, 5, 7, 31}, {13, 11})}, outputs, kernel, kBias | kRelu, 0, 3);
      add("identity and crops at the corners" + with,
          {whole({4, 11, 13, 16}), crops({1, 17, 19, 31}, {0, 0, 12, 12}, {0, 13, 0, 13}, 5, 6, {11, 13})},
          outputs, kernel, kBias | kAddend | kRelu, 1, 1);
    }
  }
  // Everything that ends the sum, for each way of making it.
  for (int mask = 0; mask < 16; ++mask) {
    const bool bias = mask & kBias, addend = mask & kAddend, relu = mask & kRelu, over = mask & kOverwrite;
    if (over && !addend) continue;
    const std::string with = std::string(bias ? ", bias" : "") + (addend ? ", addend" : "") +
                             (over ? " overwritten" : "") + (relu ? ", relu" : "");
    const SourceSizes small = whole({2, 3, 5, 17}, {9, 10}), full = whole({2, 9, 10, 16}),
                      other = whole({2, 9, 10, 33});
    add("conv" + with, {full}, 64, 3, mask);
    add("conv, conv" + with, {full, other}, 64, 3, mask);
    add("taps" + with, {small}, 64, 3, mask);
    add("taps, conv" + with, {small, full}, 64, 3, mask);
    add("conv, taps, conv" + with, {other, small, full}, 33, 3, mask, 5, 2);
  }
  // Sizes.
  for (const int to : {1, 2, 3, 31, 33, 37}) {
    add("from 1 x 1 to " + std::to_string(to), {whole({1, 1, 1, 5}, {to, to})}, 7, 3, kBias);
    add("from 7 x 3 to " + std::to_string(to), {whole({2, 7, 3, 64}, {to, to})}, 40, 3, kBias);
    add("rows only, to " + std::to_string(to), {whole({1, 2, 33, 31}, {to, 33})}, 21, 3);
    add("columns only, to " + std::to_string(to), {whole({1, 31, 2, 31}, {31, to})}, 21, 5);
  }
  add("a resize to its own size", {whole({1, 31, 33, 5}, {31, 33})}, 33, 3);
  // The two resizes in a row of the final stage, up and down.
  add("two resizes", {crops({1, 11, 11, 16}, {0, 8, 3}, {8, 0, 2}, 3, 3, {8, 8, 31, 31})}, 64, 3, kBias);
  add("two resizes, odd", {crops({1, 11, 13, 16}, {0, 4}, {6, 0}, 7, 7, {5, 17, 37, 29})}, 32, 5, kBias);
  add("up and down again", {whole({1, 5, 5, 8}, {23, 29, 7, 6})}, 64, 3);
  add("three resizes", {whole({1, 2, 3, 31}, {5, 5, 7, 11, 31, 13})}, 21, 3);
  // Larger than the target: resized first.
  add("shrinking", {whole({2, 31, 33, 16}, {7, 11})}, 64, 3, kBias);
  add("shrinking crops", {crops({1, 33, 31, 16}, {0, 13, 2}, {11, 0, 5}, 20, 20, {7, 9})}, 64, 3, kBias);
  add("shrinking crops and taps",
      {crops({1, 33, 31, 16}, {0, 13, 2}, {11, 0, 5}, 20, 20, {7, 9}), whole({3, 2, 2, 31}, {7, 9})}, 64, 3,
      kBias | kAddend);
  add("shrinking, to 2", {whole({2, 31, 33, 16}, {7, 11})}, 2, 3, kBias);
  // Crops without a resize.
  add("crops", {crops({1, 33, 31, 16}, {0, 26, 3}, {24, 0, 7}, 7, 7)}, 64, 3, kBias);
  add("crops, to 7", {crops({1, 33, 31, 16}, {0, 26, 3}, {24, 0, 7}, 7, 7)}, 7, 3, kBias);
  add("a crop that is all", {crops({1, 13, 17, 5}, {0}, {0}, 13, 17)}, 64, 3);
  add("a crop of one pixel", {crops({1, 13, 17, 5}, {12, 0}, {16, 0}, 1, 1, {9, 9})}, 33, 3);
  // Windows: inside, at the borders, beyond them, and where there is nothing.
  // And the corners of the grid, of more and of less.
  struct Place {
    int top, left, height, width, skip_rows, skip_columns;
  };
  for (const Place& at : {Place{0, 0, 7, 11, 0, 0},
                          {6, 9, 7, 11, 0, 0},
                          {-2, 3, 7, 11, 0, 0},
                          {9, -3, 7, 11, 0, 0},
                          {-20, 40, 7, 11, 0, 0},
                          {0, 0, 8, 10, 5, 7},
                          {-1, -2, 6, 8, 9, 13},
                          {1, 0, 6, 11, 3, 0}}) {
    std::string where = " at " + std::to_string(at.top) + ", " + std::to_string(at.left);
    if (at.skip_rows) where += ", without " + std::to_string(at.skip_rows) + " rows";
    for (const int64_t outputs : {7, 64}) {
      const std::string with = where + ", to " + std::to_string(outputs);
      const auto look = [&](SourceSizes s) {
        return window(std::move(s), at.top, at.left, at.height, at.width, at.skip_rows, at.skip_columns);
      };
      add("a window" + with, {look(whole({2, 13, 17, 16}))}, outputs, 3, kBias);
      add("a window, resized" + with, {look(whole({2, 5, 4, 31}, {13, 17}))}, outputs, 3, kBias | kRelu);
      add("windows of a map and of crops" + with,
          {look(whole({3, 13, 17, 16})),
           look(crops({1, 19, 18, 31}, {0, 14, 3}, {13, 0, 5}, 5, 5, {8, 8, 13, 17}))},
          outputs, 3, kBias | kAddend);
    }
  }
  for (const int64_t outputs : {1, 7}) {
    add("a window smaller than its crops, to " + std::to_string(outputs),
        {window(crops({1, 19, 18, 64}, {0, 18}, {1, 0}, 1, 17, {13, 17}), 0, 0, 2, 2, 11, 15)}, outputs, 3);
    add("products of crops alike but for their windows, to " + std::to_string(outputs),
        {window(crops({1, 9, 8, 64}, {0, 5}, {4, 0}, 3, 3, {13, 17}), 0, 0, 8, 8, 0, 0),
         window(crops({1, 9, 8, 64}, {0, 5}, {4, 0}, 3, 3, {13, 17}), 0, 0, 8, 8, 5, 0),
         window(crops({1, 9, 8, 64}, {0, 5}, {4, 0}, 3, 3, {13, 17}), 0, 0, 8, 8, 5, 9)},
        outputs, 3);
  }
  add("a window and a map of its size", {window(whole({1, 33, 31, 8}), 30, 0, 3, 31), whole({2, 3, 31, 24})},
      48, 3, kBias);
  add("wide kernels, to 7",
      {whole({2, 13, 11, 32}), crops({1, 17, 19, 31}, {0, 12}, {13, 0}, 5, 6, {13, 11})}, 7, 9,
      kBias | kAddend);
  for (const int64_t outputs : {1, 2, 16, 21}) {
    add("a wide kernel, to " + std::to_string(outputs), {whole({3, 16, 7, 64}), whole({3, 5, 4, 5}, {16, 7})},
        outputs, 9, kBias | kRelu);
  }
  add("wide kernels alone", {whole({1, 31, 29, 32}), whole({1, 31, 29, 64})}, 7, 9, kBias | kAddend | kRelu);
  add("a wide kernel over its addend", {whole({2, 4, 35, 32})}, 7, 9, kOverwrite | kRelu);
  // Maps and crops that are the same for every patch.
  add("one map for all patches", {whole({1, 9, 9, 16}), whole({3, 9, 9, 5}), whole({1, 3, 3, 31}, {9, 9})},
      64, 3, kBias);
  add("one map for all patches, to 7",
      {whole({1, 9, 9, 16}), whole({3, 9, 9, 5}), whole({1, 3, 3, 31}, {9, 9})}, 7, 3, kBias);
  add("one crop for all patches",
      {whole({3, 9, 9, 5}), crops({1, 13, 13, 16}, {2}, {9}, 4, 4, {9, 9}),
       crops({1, 13, 13, 16}, {4}, {1}, 9, 9)},
      64, 3);
  // A level's stage: several sources of each kind, K and batch such that outputs are cut and patches grouped.
  add("outputs in slices",
      {whole({2, 33, 31, 1}), whole({2, 29, 28, 10}, {33, 31}), whole({1, 17, 19, 3}, {33, 31})}, 1021, 3,
      kBias | kAddend | kRelu, 1, 2);
  add("patches in groups",
      {whole({6, 34, 36, 2}), whole({6, 31, 32, 12}, {34, 36}), whole({1, 7, 11, 5}, {34, 36})}, 201, 3,
      kBias | kAddend | kRelu);
  // The same on the emulator, whose budget for products is smaller.
  add("products in slices", {whole({1, 12, 13, 24}, {20, 23}), whole({1, 20, 23, 3})}, 200, 3, kBias);
  add("products in groups, the last one smaller",
      {crops({1, 17, 19, 24}, {0, 3, 12, 1, 9}, {13, 0, 5, 2, 7}, 5, 6, {13, 11})}, 130, 5, kAddend);
  // Wide sources: a band of which CUDA's shared memory holds fewer channels at once, and none.
  add("150 columns", {whole({1, 3, 150, 16}, {9, 170})}, 40, 3, kBias);
  add("600 columns", {whole({1, 2, 600, 5}, {9, 600})}, 9, 3, kBias);
  // Rows with so many taps that the gather lists them in rounds.
  add("two resizes, wide kernels, to 8",
      {whole({2, 13, 4, 16}, {8, 6, 31, 11}), whole({2, 12, 3, 16}, {14, 5, 31, 11}),
       whole({2, 14, 5, 16}, {17, 6, 31, 11}), whole({2, 31, 11, 16})},
      8, 9, kBias);
  // What tensor cores take as one product: by columns, by taps, with a long sum in parts.
  add("several sources, wide kernels, to 7",
      {whole({3, 13, 11, 16}), crops({1, 17, 19, 24}, {0, 4, 2}, {8, 0, 1}, 13, 11), whole({1, 13, 11, 8}),
       whole({3, 5, 4, 16}, {13, 11})},
      7, 9, kBias | kAddend);
  add("a long sum", {whole({1, 5, 6, 264}), whole({1, 5, 6, 72})}, 24, 3, kBias);
  add("a long sum, to 7", {whole({1, 5, 6, 264}), whole({1, 5, 6, 72})}, 7, 5, kBias);
  add("a long sum of patches in groups, the last one small", {whole({51, 12, 12, 520}, {13, 13})}, 3, 3,
      kBias);
  add("several sources of one small grid",
      {whole({2, 5, 6, 16}, {13, 11}), whole({2, 5, 6, 8}, {13, 11}), whole({1, 5, 6, 8}, {13, 11}),
       whole({2, 13, 11, 8}), whole({2, 13, 11, 40})},
      48, 3, kBias | kRelu);
  add("the final stage, small",
      {whole({2, 4, 4, 8}, {33, 33}), crops({1, 4, 4, 8}, {0, 3}, {3, 0}, 1, 1, {4, 4, 33, 33}),
       whole({2, 8, 8, 8}, {33, 33}), crops({1, 8, 8, 8}, {0, 6}, {6, 1}, 2, 2, {8, 8, 33, 33}),
       whole({2, 16, 16, 8}, {33, 33}), crops({1, 16, 16, 8}, {0, 13}, {13, 7}, 3, 3, {16, 16, 33, 33}),
       whole({2, 33, 33, 8}), crops({1, 33, 33, 8}, {0, 26}, {26, 11}, 7, 7, {33, 33})},
      48, 3, kBias);

  suite.refuses<AggregateConv>("no source", spoilt([](AggregateConv& op, Builder&) { op.sources.clear(); }),
                               "there is no source");
  suite.refuses<AggregateConv>(
      "an even kernel", spoilt([](AggregateConv& op, Builder& b) { op.weight = {b.tensor({7, 8, 2, 2})}; }),
      "the kernel of weight [7, 8, 2, 2] must be square and odd");
  suite.refuses<AggregateConv>("grids that differ",
                               spoilt([](AggregateConv& op, Builder&) { op.sources[1].sizes = {8, 9}; }),
                               "a source is 8 x 9 on the target grid, the first 8 x 8");
  suite.refuses<AggregateConv>("batches that differ", spoilt([](AggregateConv& op, Builder&) {
                                 op.sources[1].tops = {0, 1, 2};
                                 op.sources[1].lefts = {0, 1, 2};
                               }),
                               "sources of 2 and 3 patches do not go together");
  suite.refuses<AggregateConv>("dtypes that differ", spoilt([](AggregateConv& op, Builder& b) {
                                 op.sources[0].x = {b.zeros({2, 8, 8, 3}, DType::bfloat16)};
                               }),
                               "source must be float32, and is bfloat16");
  suite.refuses<AggregateConv>("channels past the weight's",
                               spoilt([](AggregateConv& op, Builder&) { op.first = 1; }),
                               "weight [7, 8, 3, 3] has no channels 1 to 8");
  suite.refuses<AggregateConv>("a negative first channel",
                               spoilt([](AggregateConv& op, Builder&) { op.first = -1; }),
                               "has no channels -1 to 6");
  suite.refuses<AggregateConv>("a bias of another length",
                               spoilt([](AggregateConv& op, Builder& b) { op.bias = {b.floats({8})}; }),
                               "bias must have shape [7], and has [8]");
  suite.refuses<AggregateConv>("an addend of another shape", spoilt([](AggregateConv& op, Builder& b) {
                                 op.addend = {b.tensor({1, 8, 8, 7})};
                               }),
                               "addend must have shape [2, 8, 8, 7], and has [1, 8, 8, 7]");
  suite.refuses<AggregateConv>("a crop that leaves its map",
                               spoilt([](AggregateConv& op, Builder&) { op.sources[1].tops[1] = 6; }),
                               "the crop at row 6, column 2 of 4 x 4 leaves the map [1, 9, 9, 5]");
  suite.refuses<AggregateConv>("a crop of several maps", spoilt([](AggregateConv& op, Builder&) {
                                 op.sources[0].tops = {0, 0};
                                 op.sources[0].lefts = {0, 0};
                               }),
                               "crops are taken from one map, and the source has 2");
  suite.refuses<AggregateConv>("tops without lefts",
                               spoilt([](AggregateConv& op, Builder&) { op.sources[1].lefts.pop_back(); }),
                               "a source has 2 tops and 1 lefts");
  suite.refuses<AggregateConv>("sizes that are no pairs",
                               spoilt([](AggregateConv& op, Builder&) { op.sources[1].sizes.push_back(8); }),
                               "sizes are pairs of height and width, and there are 3");
  suite.refuses<AggregateConv>("an empty crop",
                               spoilt([](AggregateConv& op, Builder&) { op.sources[1].crop_width = 0; }),
                               "the crop of 4 x 0 is empty");

  // The local branch of GLNet for patches of 508 px of an image of 2448 px, and its aggregation.
  const auto bench = [&](const std::string& name, std::vector<SourceSizes> sources, int64_t outputs,
                         int64_t kernel, int ending = kBias) {
    const AggregateSizes a{std::move(sources), outputs, kernel, ending, 0, 0};
    suite.bench<AggregateConv>(name, [=](Builder& b) { return random_aggregate_conv(b, a); });
  };
  const std::vector<int> pixels = {0, 388, 776, 1164, 1552, 1940};
  const auto shared = [&](int batch, int side, int64_t channels, int crop, std::vector<int> sizes) {
    std::vector<int> starts;
    for (int i = 0; i < batch; ++i) {
      starts.push_back(std::min(pixels[static_cast<size_t>(i)] * side / 2448, side - crop));
    }
    return crops({1, side, side, channels}, starts, starts, crop, crop, std::move(sizes));
  };
  const struct {
    int side, crop, channels;
  } levels[] = {{16, 3, 2048}, {32, 7, 1024}, {64, 13, 512}, {127, 26, 256}};
  for (const int batch : {1, 6}) {
    const std::string patches = batch == 1 ? "" : ", " + std::to_string(batch) + " patches";
    for (const auto& [side, crop, channels] : levels) {
      const std::string at = " at " + std::to_string(side) + patches;
      const bool top = side == 16;
      bench((top ? "toplayer" : "latlayer") + at,
            {whole({batch, side, side, channels}), shared(batch, side, channels, crop, {side, side})}, 256, 1,
            top ? kBias : kBias | kAddend);
    }
    for (const auto& [side, crop, channels] : levels) {
      const std::string at = " at " + std::to_string(side) + patches;
      for (const int64_t outputs : {256, 128}) {
        bench("smooth*_" + std::string(outputs == 256 ? "1" : "2") + at,
              {whole({batch, side, side, 256}), shared(batch, side, 256, crop, {side, side})}, outputs, 3);
      }
    }
    std::vector<SourceSizes> final;
    for (const auto& [side, crop, channels] : levels) {
      const bool resized = side != 127;
      final.push_back(whole({batch, side, side, 128}, resized ? std::vector{127, 127} : std::vector<int>{}));
      final.push_back(shared(batch, side, 128, crop,
                             resized ? std::vector{side, side, 127, 127} : std::vector{127, 127}));
    }
    bench("smooth" + patches, final, 512, 3);
    // As inference composes them for 7 classes: all levels but the last to 9 taps a class, and the last by
    // itself.
    bench("head's taps" + patches, {final.begin(), final.end() - 2}, 63, 3);
    const auto last = [&](int64_t channels) { return shared(batch, 127, channels, 26, {127, 127}); };
    bench("last level" + patches, {whole({batch, 127, 127, 256}), last(256), last(256), last(128)}, 7, 9,
          kBias | kAddend);
    bench("classify" + patches, {whole({batch, 127, 127, 512})}, 7, 3);
    bench("ensemble" + patches, {whole({batch, 127, 127, 512}), shared(batch, 127, 512, 26, {127, 127})}, 7,
          3);
  }
}

}  // namespace glnet::test
