// Sources whose gradients are asked for: shared by the cases of aggregate_conv_backward_data and _weights.
#pragma once

#include "test/cases/aggregate_conv.h"

namespace glnet::test {

/// One source of an aggregate_conv of `patches` patches.
struct BackwardSizes {
  std::string name;
  SourceSizes source;
  int64_t patches, outputs, kernel;
  int first = 0;
  int rest = 0;  ///< channels of the weight after the source
};

inline GridSource make_source(const View& x, const SourceSizes& sizes) {
  GridSource source;
  source.x = {x};
  source.tops = sizes.tops;
  source.lefts = sizes.lefts;
  source.crop_height = sizes.crop_height;
  source.crop_width = sizes.crop_width;
  source.sizes = sizes.sizes;
  return source;
}

inline View random_dy(Builder& b, const GridSource& source, const BackwardSizes& a) {
  return b.tensor({a.patches, source.height(), source.width(), a.outputs});
}

inline Shape weight_shape(const BackwardSizes& a) {
  return {a.outputs, a.first + a.source.x[3] + a.rest, a.kernel, a.kernel};
}

inline std::vector<BackwardSizes> aggregate_backward_sizes() {
  std::vector<BackwardSizes> all;
  // Few outputs and many: the taps pay on the target's own grid, or do not.
  for (const int64_t outputs : {1, 7, 64}) {
    for (const int64_t kernel : {1, 3, 5}) {
      const std::string with = ", kernel " + std::to_string(kernel) + ", to " + std::to_string(outputs);
      all.push_back({"identity" + with, whole({2, 13, 11, 31}), 2, outputs, kernel, 2, 1});
      all.push_back({"upsampled" + with, whole({1, 5, 7, 31}, {13, 11}), 1, outputs, kernel, 0, 3});
      all.push_back({"crops at the corners" + with,
                     crops({1, 17, 19, 31}, {0, 0, 12, 12}, {0, 13, 0, 13}, 5, 6, {11, 13}), 4, outputs,
                     kernel, 1, 1});
    }
  }
  for (const int to : {1, 2, 3, 31, 33, 37}) {
    const std::string size = std::to_string(to);
    all.push_back({"from 1 x 1 to " + size, whole({1, 1, 1, 5}, {to, to}), 1, 7, 3});
    all.push_back({"from 7 x 3 to " + size, whole({2, 7, 3, 17}, {to, to}), 2, 40, 3});
    all.push_back({"rows only, to " + size, whole({1, 2, 33, 7}, {to, 33}), 1, 21, 3});
    all.push_back({"columns only, to " + size, whole({1, 31, 2, 7}, {31, to}), 1, 21, 5});
  }
  all.push_back({"a resize to its own size", whole({1, 31, 33, 5}, {31, 33}), 1, 33, 3});
  all.push_back(
      {"two resizes", crops({1, 11, 11, 16}, {0, 8, 3}, {8, 0, 2}, 3, 3, {8, 8, 31, 31}), 3, 64, 3});
  all.push_back(
      {"two resizes, odd", crops({1, 11, 13, 16}, {0, 4}, {6, 0}, 7, 7, {5, 17, 37, 29}), 2, 32, 5});
  all.push_back({"up and down again", whole({1, 5, 5, 8}, {23, 29, 7, 6}), 1, 64, 3});
  all.push_back({"three resizes", whole({1, 2, 3, 31}, {5, 5, 7, 11, 31, 13}), 1, 21, 3});
  // Larger than the target.
  for (const int64_t outputs : {2, 64}) {
    const std::string to = ", to " + std::to_string(outputs);
    all.push_back({"shrinking" + to, whole({2, 31, 33, 16}, {7, 11}), 2, outputs, 3});
    all.push_back({"shrinking crops" + to, crops({1, 33, 31, 16}, {0, 13, 2}, {11, 0, 5}, 20, 20, {7, 9}), 3,
                   outputs, 3, 1});
  }
  // Crops without a resize.
  for (const int64_t outputs : {7, 64}) {
    all.push_back({"crops, to " + std::to_string(outputs),
                   crops({1, 33, 31, 16}, {0, 26, 3, 4}, {24, 0, 7, 9}, 7, 7), 4, outputs, 3, 0, 2});
  }
  all.push_back({"a crop that is all", crops({1, 13, 17, 5}, {0}, {0}, 13, 17), 1, 64, 3});
  all.push_back({"a crop of one pixel", crops({1, 13, 17, 5}, {12, 0}, {16, 0}, 1, 1, {9, 9}), 2, 33, 3});
  // Maps and crops that are the same for every patch.
  for (const int64_t outputs : {7, 64}) {
    const std::string to = " for all patches, to " + std::to_string(outputs);
    all.push_back({"one map" + to, whole({1, 9, 9, 16}), 3, outputs, 3});
    all.push_back({"one resized map" + to, whole({1, 3, 3, 31}, {9, 9}), 3, outputs, 3});
    all.push_back({"one map, kernel 1," + to, whole({1, 9, 9, 16}), 3, outputs, 1});
    all.push_back(
        {"one resized crop" + to, crops({1, 13, 13, 16}, {2}, {9}, 4, 4, {9, 9}), 3, outputs, 3, 2});
    all.push_back({"one crop" + to, crops({1, 13, 13, 16}, {4}, {1}, 9, 9), 3, outputs, 3});
  }
  // Outputs in slices, patches in groups.
  all.push_back({"outputs in slices", whole({2, 29, 28, 2}, {33, 31}), 2, 1201, 3, 1, 2});
  all.push_back({"patches in groups", whole({6, 31, 32, 2}, {34, 36}), 6, 201, 3});
  all.push_back({"crops in groups",
                 crops({1, 17, 19, 24}, {0, 3, 12, 1, 9}, {13, 0, 5, 2, 7}, 5, 6, {13, 11}), 5, 130, 5});
  all.push_back({"maps in groups, the last one smaller", whole({5, 12, 11, 6}, {15, 14}), 5, 90, 3});
  all.push_back({"150 columns", whole({1, 3, 150, 16}, {9, 170}), 1, 40, 3});
  all.push_back({"600 columns", whole({1, 2, 600, 5}, {9, 600}), 1, 9, 3});
  // As many terms in a sum as there are pixels.
  all.push_back({"long sums", whole({3, 97, 101, 2}), 3, 3, 3});
  all.push_back({"long sums, kernel 1", whole({3, 97, 101, 17}), 3, 17, 1});
  return all;
}

/// Small sources for finite differences: the first is the one that is differentiated.
inline std::vector<BackwardSizes> aggregate_gradient_sizes() {
  return {
      {"whole maps", whole({2, 4, 5, 2}), 2, 3, 3, 1, 1},
      {"resized maps", whole({2, 3, 2, 2}, {4, 5}), 2, 3, 3},
      {"crops", crops({1, 6, 6, 2}, {0, 3, 1}, {2, 1, 3}, 3, 3, {5, 4, 6, 5}), 3, 2, 3, 1},
      {"one map for all patches", whole({1, 3, 3, 2}, {4, 5}), 3, 2, 1},
  };
}

/// An aggregate_conv of a source of `a` and, so that there are as many patches, of whole maps.
inline AggregateConv forward_of(Builder& b, const BackwardSizes& a) {
  AggregateConv op;
  op.sources.push_back(make_source(b.tensor(a.source.x), a.source));
  const GridSource& s = op.sources[0];
  op.sources.push_back(make_source(b.tensor({a.patches, s.height(), s.width(), 1}), whole({})));
  Shape shape = weight_shape(a);
  ++shape[1];
  op.weight = {b.tensor(shape)};
  op.first = a.first;
  return op;
}

/// Sources of the local branch of GLNet for 6 patches of 508 px of an image of 2448 px.
inline std::vector<BackwardSizes> aggregate_bench_sizes() {
  std::vector<BackwardSizes> all;
  const std::vector<int> pixels = {0, 388, 776, 1164, 1552, 1940};
  const auto shared = [&](int side, int64_t channels, int crop, std::vector<int> sizes) {
    std::vector<int> starts;
    for (const int pixel : pixels) starts.push_back(std::min(pixel * side / 2448, side - crop));
    return crops({1, side, side, channels}, starts, starts, crop, crop, std::move(sizes));
  };
  const struct {
    int side, crop, channels;
  } levels[] = {{16, 3, 2048}, {32, 7, 1024}, {64, 13, 512}, {127, 26, 256}};
  for (const auto& [side, crop, channels] : levels) {
    const std::string at = " at " + std::to_string(side);
    const bool resized = side != 127;
    all.push_back({"lateral, own" + at, whole({6, side, side, channels}), 6, 256, 1, 0, channels});
    all.push_back(
        {"lateral, crops" + at, shared(side, channels, crop, {side, side}), 6, 256, 1, channels, 0});
    all.push_back({"smooth*_1, own" + at, whole({6, side, side, 256}), 6, 256, 3, 0, 256});
    all.push_back({"smooth*_1, crops" + at, shared(side, 256, crop, {side, side}), 6, 256, 3, 256, 0});
    all.push_back({"smooth*_2, own" + at, whole({6, side, side, 256}), 6, 128, 3, 0, 256});
    all.push_back({"smooth, own" + at,
                   whole({6, side, side, 128}, resized ? std::vector{127, 127} : std::vector<int>{}), 6, 512,
                   3, 0, 896});
    all.push_back(
        {"smooth, crops" + at,
         shared(side, 128, crop, resized ? std::vector{side, side, 127, 127} : std::vector{127, 127}), 6, 512,
         3, 128, 768});
  }
  all.push_back({"classify", whole({6, 127, 127, 512}), 6, 7, 3});
  all.push_back({"ensemble, crops", shared(127, 512, 26, {127, 127}), 6, 7, 3, 512, 0});
  return all;
}

}  // namespace glnet::test
