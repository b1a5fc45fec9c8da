#pragma once

#include "test/cases/crop_resize.h"

namespace glnet::test {

/// The backward of a crop_resize, with random dy.
inline CropResizeBackward backward_of(Builder& b, CropResize forward, bool addend = false) {
  forward.infer();
  CropResizeBackward op;
  op.dy = {b.tensor(forward.y.shape)};
  op.source = forward.sources[0].geometry();
  if (addend) op.addend = {b.tensor(forward.sources[0].x.shape)};
  return op;
}

inline void crop_resize_backward_cases(Suite& suite) {
  const auto add = [&](const std::string& name, std::function<CropResize(Builder&)> forward,
                       bool addend = false) {
    suite.add<CropResizeBackward>(name, [=](Builder& b) { return backward_of(b, forward(b), addend); },
                                  {.bfloat16 = false});
  };
  const std::vector<std::vector<int>> chains{
      {}, {31, 33}, {3, 2}, {7, 11}, {16, 9, 127, 61}, {4, 3, 33, 31, 8, 1}, {2, 50, 50, 2, 13, 13}};
  for (const std::vector<int>& sizes : chains) {
    std::string name;
    for (const int s : sizes) name.append(" ").append(std::to_string(s));
    for (const int channels : {1, 7, 12, 65}) {
      add(
          "crops at the corners, " + std::to_string(channels) + " channels, sizes" + name,
          [=](Builder& b) {
            return make_crop_resize(b.zeros({1, 23, 19, channels}, b.dtype()), {0, 0, 16, 16, 5},
                                    {0, 8, 0, 8, 3}, 7, 11, sizes);
          },
          channels == 7);
    }
    for (const bool addend : {false, true}) {
      add(
          std::string("no crop") + (addend ? ", addend" : "") + ", sizes" + name,
          [=](Builder& b) {
            return make_crop_resize(b.zeros({3, 7, 11, 5}, b.dtype()), {}, {}, 0, 0, sizes);
          },
          addend);
    }
    add("one pixel, sizes" + name, [=](Builder& b) {
      return make_crop_resize(b.zeros({1, 3, 3, 2}, b.dtype()), {0, 2}, {2, 1}, 1, 1, sizes);
    });
  }
  // More packs, and more elements, of a pixel than a block has threads.
  for (const int channels : {264, 1028}) {
    add(
        std::to_string(channels) + " channels",
        [=](Builder& b) {
          return make_crop_resize(b.zeros({1, 5, 4, channels}, b.dtype()), {0, 2}, {1, 0}, 3, 3, {5, 4});
        },
        true);
  }
  // The third phase of training: more crops on one map than a launch takes corners, on top of each other.
  add(
      "many crops that overlap",
      [](Builder& b) {
        std::vector<int> tops, lefts;
        for (int i = 0; i < 1100; ++i) tops.push_back(b.integer(0, 26)), lefts.push_back(b.integer(0, 28));
        return make_crop_resize(b.zeros({1, 31, 33, 3}, b.dtype()), tops, lefts, 5, 5, {7, 6});
      },
      true);

  for (const bool cropped : {false, true}) {
    suite.gradient<CropResize>(
        cropped ? "x of crops" : "x of whole maps",
        [=](Builder& b) {
          return cropped
                     ? make_crop_resize(b.tensor({1, 9, 11, 2}), {0, 5, 3}, {6, 1, 2}, 4, 5, {9, 7, 12, 3})
                     : make_crop_resize(b.tensor({2, 5, 7, 3}), {}, {}, 0, 0, {11, 3});
        },
        "y", "x",
        [](Builder& b, const CropResize& forward, const View& dy) -> View {
          return evaluated(CropResizeBackward{{dy}, forward.sources[0].geometry(), {}, {}}, b).dx;
        });
  }
  suite.gradient<Resize>(
      "x", [](Builder& b) { return Resize{{b.tensor({2, 5, 7, 3})}, 13, 4, Interpolation::bilinear, {}}; },
      "y", "x",
      [](Builder& b, const Resize& forward, const View& dy) -> View {
        GridSource source;
        source.x = forward.x;
        source.sizes = {forward.height, forward.width};
        return evaluated(CropResizeBackward{{dy}, source.geometry(), {}, {}}, b).dx;
      });

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, CropResizeBackward&)> spoil) {
    suite.refuses<CropResizeBackward>(
        name,
        [](Builder& b) {
          return backward_of(b, make_crop_resize(b.tensor({1, 9, 9, 2}), {1, 3}, {2, 0}, 3, 4, {5, 5}), true);
        },
        spoil, expected);
  };
  refuses("dy of another size", "dy must have shape [2, 5, 5, 2], and has [2, 5, 6, 2]",
          [](Builder& b, auto& op) { op.dy = {b.tensor({2, 5, 6, 2})}; });
  refuses("dy of another number of patches", "dy must have shape [2, 5, 5, 2], and has [1, 5, 5, 2]",
          [](Builder& b, auto& op) { op.dy = {b.tensor({1, 5, 5, 2})}; });
  refuses("dy in bfloat16", "dy must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.dy = {b.zeros({2, 5, 5, 2}, DType::bfloat16)}; });
  refuses("an addend of another shape", "addend must have shape [1, 9, 9, 2], and has [1, 9, 9, 1]",
          [](Builder& b, auto& op) { op.addend = {b.tensor({1, 9, 9, 1})}; });
  refuses("an addend of another dtype", "addend must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.addend = {b.zeros({1, 9, 9, 2}, DType::bfloat16)}; });
  refuses("a map without channels", "the source's map must have a positive size, and is [1, 9, 9, 0]",
          [](Builder&, auto& op) { op.source.map_channels = 0; });
  refuses("crops of several maps", "crops are taken from one map, and the source has 2",
          [](Builder&, auto& op) { op.source.map_batch = 2; });
  refuses("a crop that leaves its map", "the crop at row 7, column 0 of 3 x 4 leaves the map [1, 9, 9, 2]",
          [](Builder&, auto& op) { op.source.tops[1] = 7; });
  refuses("an odd number of sizes", "sizes are pairs of height and width, and there are 3",
          [](Builder&, auto& op) { op.source.sizes.push_back(5); });

  const auto bench = [&](const std::string& name, std::function<CropResize(Builder&)> forward) {
    suite.bench<CropResizeBackward>(name, [=](Builder& b) { return backward_of(b, forward(b)); });
  };
  bench("6 crops of 26x26x256 to 127x127", [](Builder& b) {
    return make_crop_resize(b.zeros({1, 127, 127, 256}, b.dtype()), {0, 20, 40, 60, 80, 101},
                            {101, 80, 60, 40, 20, 0}, 26, 26, {127, 127});
  });
  bench("36 crops of 26x26x256", [](Builder& b) {
    std::vector<int> tops, lefts;
    for (int i = 0; i < 36; ++i) tops.push_back(i / 6 * 20), lefts.push_back(i % 6 * 20);
    return make_crop_resize(b.zeros({1, 127, 127, 256}, b.dtype()), tops, lefts, 26, 26, {});
  });
  bench("6x64x64x256 to 127x127", [](Builder& b) {
    return make_crop_resize(b.zeros({6, 64, 64, 256}, b.dtype()), {}, {}, 0, 0, {127, 127});
  });
}

}  // namespace glnet::test
