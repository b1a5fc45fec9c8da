#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

inline CropResize make_crop_resize(const View& x, std::vector<int> tops, std::vector<int> lefts, int height,
                                   int width, std::vector<int> sizes) {
  CropResize op;
  op.source.x = {x};
  op.source.tops = std::move(tops);
  op.source.lefts = std::move(lefts);
  op.source.crop_height = height;
  op.source.crop_width = width;
  op.source.sizes = std::move(sizes);
  return op;
}

inline void crop_resize_cases(Suite& suite) {
  const std::vector<std::vector<int>> chains{
      {}, {31, 33}, {3, 2}, {7, 11}, {16, 9, 127, 61}, {4, 3, 33, 31, 8, 1}, {2, 50, 50, 2, 13, 13}};
  for (const std::vector<int>& sizes : chains) {
    std::string name;
    for (const int s : sizes) name.append(" ").append(std::to_string(s));
    for (const int channels : {1, 7, 8, 12, 65}) {
      suite.add<CropResize>("crops at the corners, " + std::to_string(channels) + " channels, sizes" + name,
                            [=](Builder& b) {
                              return make_crop_resize(b.tensor({1, 23, 19, channels}), {0, 0, 16, 16, 5},
                                                      {0, 8, 0, 8, 3}, 7, 11, sizes);
                            });
    }
    suite.add<CropResize>("no crop, sizes" + name, [=](Builder& b) {
      return make_crop_resize(b.tensor({3, 7, 11, 5}), {}, {}, 0, 0, sizes);
    });
    suite.add<CropResize>("one pixel, sizes" + name, [=](Builder& b) {
      return make_crop_resize(b.tensor({1, 3, 3, 2}), {0, 2}, {2, 1}, 1, 1, sizes);
    });
  }
  struct Window {
    int top, left, height, width;
  };
  for (const Window& w : {Window{0, 0, 3, 11},
                          {2, 7, 5, 4},
                          {-3, -1, 4, 5},
                          {6, 9, 3, 4},
                          {-2, -4, 13, 21},
                          {-5, 0, 4, 3},
                          {40, 40, 2, 2}}) {
    std::ostringstream name;
    name << "window of " << w.height << " x " << w.width << " at " << w.top << ", " << w.left;
    const auto look = [=](CropResize op) {
      op.source.set_window(w.top, w.left, w.height, w.width);
      return op;
    };
    suite.add<CropResize>(name.str(), [=](Builder& b) {
      return look(make_crop_resize(b.tensor({3, 7, 11, 33}), {}, {}, 0, 0, {}));
    });
    suite.add<CropResize>(name.str() + ", of resized crops", [=](Builder& b) {
      return look(make_crop_resize(b.tensor({1, 9, 9, 17}), {0, 5, 2}, {5, 0, 3}, 4, 4, {5, 6, 8, 11}));
    });
  }
  // More packs of 16 bytes, and more elements, of a pixel than a block has threads.
  for (const int channels : {264, 1028, 2064}) {
    suite.add<CropResize>(std::to_string(channels) + " channels", [=](Builder& b) {
      return make_crop_resize(b.tensor({1, 5, 4, channels}), {0, 2}, {1, 0}, 3, 3, {2, 5});
    });
  }
  suite.add<CropResize>("one row, 256 channels", [](Builder& b) {
    return make_crop_resize(b.tensor({1, 6, 9, 256}), {0, 3}, {1, 0}, 3, 8, {1, 37});
  });
  suite.add<CropResize>("NaN and infinities", [](Builder& b) {
    std::vector<double> values(8 * 8, 0.5);
    values[9] = NAN, values[20] = INFINITY, values[21] = -INFINITY, values[63] = NAN;
    return make_crop_resize(b.values({1, 8, 8, 1}, values), {0, 4, 2}, {0, 4, 3}, 4, 4, {8, 8, 5, 5});
  });

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, CropResize&)> spoil) {
    suite.refuses<CropResize>(
        name, [](Builder& b) { return make_crop_resize(b.tensor({1, 9, 9, 2}), {1}, {2}, 3, 4, {5, 5}); },
        spoil, expected);
  };
  refuses("a map of another rank", "source must have 4 dimensions",
          [](Builder& b, auto& op) { op.source.x = {b.tensor({9, 9, 2})}; });
  refuses("a left too few", "a source has 1 tops and 0 lefts",
          [](Builder&, auto& op) { op.source.lefts.clear(); });
  refuses("an odd number of sizes", "sizes are pairs of height and width, and there are 3",
          [](Builder&, auto& op) { op.source.sizes = {1, 2, 3}; });
  refuses("a size of 0", "a size of 0 must be positive",
          [](Builder&, auto& op) { op.source.sizes = {1, 0}; });
  refuses("crops of several maps", "crops are taken from one map, and the source has 2",
          [](Builder& b, auto& op) { op.source.x = {b.tensor({2, 9, 9, 2})}; });
  refuses("an empty crop", "the crop of 0 x 4 is empty",
          [](Builder&, auto& op) { op.source.crop_height = 0; });
  for (const auto& [top, left] : {std::pair{-1, 0}, {0, -1}, {7, 0}, {0, 6}, {2147483647, 0}}) {
    refuses(
        "a crop at " + std::to_string(top) + ", " + std::to_string(left), "leaves the map [1, 9, 9, 2]",
        [top = top, left = left](Builder&, auto& op) { op.source.tops = {top}, op.source.lefts = {left}; });
  }
  const struct {
    const char* name;
    int top, left, height, width;
    const char* expected;
  } windows[] = {{"a window without width", 1, 2, 3, 0, "no window of 3 x 0 at row 1, column 2"},
                 {"a window of negative height", 0, 0, -3, 4, "no window of -3 x 4"},
                 {"a window without size", 0, 1, 0, 0, "no window of 0 x 0 at row 0, column 1"},
                 {"a window too far off", 2147483647, 0, 2, 2, "no window of 2 x 2 at row 2147483647"}};
  for (const auto& w : windows) {
    refuses(w.name, w.expected,
            [w](Builder&, auto& op) { op.source.set_window(w.top, w.left, w.height, w.width); });
  }
  suite.bench<CropResize>("6 crops of 26x26x256 to 127x127", [](Builder& b) {
    return make_crop_resize(b.tensor({1, 127, 127, 256}), {0, 20, 40, 60, 80, 101}, {101, 80, 60, 40, 20, 0},
                            26, 26, {127, 127});
  });
  suite.bench<CropResize>("a window of 3x135 of 6 crops to 127x127", [](Builder& b) {
    CropResize op = make_crop_resize(b.tensor({1, 127, 127, 256}), {0, 20, 40, 60, 80, 101},
                                     {101, 80, 60, 40, 20, 0}, 26, 26, {127, 127});
    op.source.set_window(0, -4, 3, 135);
    return op;
  });
  suite.bench<CropResize>("6 crops of 3x3x2048 to 16x16", [](Builder& b) {
    return make_crop_resize(b.tensor({1, 16, 16, 2048}), {0, 3, 5, 8, 10, 13}, {13, 10, 8, 5, 3, 0}, 3, 3,
                            {16, 16});
  });
  suite.bench<CropResize>("6 crops of 26x26x128 to 32x32 to 127x127", [](Builder& b) {
    return make_crop_resize(b.tensor({1, 127, 127, 128}), {0, 20, 40, 60, 80, 101}, {101, 80, 60, 40, 20, 0},
                            26, 26, {32, 32, 127, 127});
  });
}

}  // namespace glnet::test
