#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

inline GridSource make_source(const View& x, std::vector<int> tops, std::vector<int> lefts, int height,
                              int width, std::vector<int> sizes) {
  GridSource source;
  source.x = {x};
  source.tops = std::move(tops);
  source.lefts = std::move(lefts);
  source.crop_height = height;
  source.crop_width = width;
  source.sizes = std::move(sizes);
  return source;
}

inline CropResize make_crop_resize(const View& x, std::vector<int> tops, std::vector<int> lefts, int height,
                                   int width, std::vector<int> sizes) {
  CropResize op;
  op.sources = {make_source(x, std::move(tops), std::move(lefts), height, width, std::move(sizes))};
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
    int top, left, height, width, skip_rows, skip_columns;
  };
  // The grid is 7 x 11, or 8 x 11.
  for (const Window& w : {Window{0, 0, 3, 11, 0, 0},
                          {2, 7, 5, 4, 0, 0},
                          {-3, -1, 4, 5, 0, 0},
                          {6, 9, 3, 4, 0, 0},
                          {-2, -4, 13, 21, 0, 0},
                          {-5, 0, 4, 3, 0, 0},
                          {40, 40, 2, 2, 0, 0},
                          // Corners and sides, of the grid and beyond it, and of nothing else.
                          {0, 0, 4, 6, 3, 5},
                          {0, 0, 2, 11, 5, 0},
                          {0, 1, 7, 2, 0, 8},
                          {-2, -1, 6, 4, 5, 9},
                          {1, 2, 2, 4, 1, 1},
                          {-3, -4, 4, 8, 9, 11},
                          {-2, -3, 4, 6, 9, 14}}) {
    std::ostringstream name;
    name << "window of " << w.height << " x " << w.width << " at " << w.top << ", " << w.left;
    if (w.skip_rows || w.skip_columns) name << ", without " << w.skip_rows << ", " << w.skip_columns;
    const auto look = [=](CropResize op) {
      op.sources[0].set_window(w.top, w.left, w.height, w.width, w.skip_rows, w.skip_columns);
      return op;
    };
    suite.add<CropResize>(name.str(), [=](Builder& b) {
      return look(make_crop_resize(b.tensor({3, 7, 11, 33}), {}, {}, 0, 0, {}));
    });
    suite.add<CropResize>(name.str() + ", of resized crops", [=](Builder& b) {
      return look(make_crop_resize(b.tensor({1, 9, 9, 17}), {0, 5, 2}, {5, 0, 3}, 4, 4, {5, 6, 8, 11}));
    });
  }
  // Sources side by side: of other sizes, crops and corners; more of them than a launch takes.
  const auto together = [](std::vector<GridSource> sources) {
    CropResize op;
    op.sources = std::move(sources);
    return op;
  };
  for (const int channels : {1, 8, 33}) {
    const std::string with = ", " + std::to_string(channels) + " channels";
    suite.add<CropResize>("maps and crops" + with, [=](Builder& b) {
      return together({make_source(b.tensor({3, 7, 11, 16}), {}, {}, 0, 0, {}),
                       make_source(b.tensor({1, 9, 9, channels}), {0, 5, 2}, {5, 0, 3}, 4, 4, {7, 11}),
                       make_source(b.tensor({1, 9, 9, 8}), {0, 5, 2}, {5, 0, 3}, 4, 4, {5, 6, 7, 11})});
    });
    suite.add<CropResize>("one for all patches" + with, [=](Builder& b) {
      return together({make_source(b.tensor({1, 5, 4, channels}), {}, {}, 0, 0, {6, 5}),
                       make_source(b.tensor({1, 8, 9, 8}), {2}, {3}, 6, 5, {}),
                       make_source(b.tensor({1, 8, 9, 24}), {1, 0, 2, 1, 0}, {3, 4, 0, 2, 0}, 6, 5, {}),
                       make_source(b.tensor({5, 3, 3, 8}), {}, {}, 0, 0, {6, 5})});
    });
    suite.add<CropResize>("crops at other corners" + with, [=](Builder& b) {
      std::vector<GridSource> sources;
      for (int i = 0; i < 6; ++i) {
        sources.push_back(i == 3 ? make_source(b.tensor({3, 4, 4, channels}), {}, {}, 0, 0, {})
                                 : make_source(b.tensor({1, 6, 7, 8}), {0, i / 2, 1}, {2, 0, 3}, 4, 4, {}));
      }
      return together(sources);
    });
    suite.add<CropResize>("nine maps" + with, [=](Builder& b) {
      std::vector<GridSource> sources;
      for (int i = 0; i < 9; ++i) {
        sources.push_back(make_source(b.tensor({2, 2 + i, 3, channels}), {}, {}, 0, 0, {5, 3}));
      }
      return together(sources);
    });
    suite.add<CropResize>("windows" + with, [=](Builder& b) {
      CropResize op = together({make_source(b.tensor({2, 31, 33, channels}), {}, {}, 0, 0, {}),
                                make_source(b.tensor({1, 9, 9, 8}), {0, 5}, {5, 0}, 4, 4, {31, 33}),
                                make_source(b.tensor({2, 4, 6, 8}), {}, {}, 0, 0, {})});
      op.sources[0].set_window(-2, 0, 4, 6, 31, 27);
      op.sources[1].set_window(29, -1, 4, 6, 0, 0);
      return op;
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
          [](Builder& b, auto& op) { op.sources[0].x = {b.tensor({9, 9, 2})}; });
  refuses("a left too few", "a source has 1 tops and 0 lefts",
          [](Builder&, auto& op) { op.sources[0].lefts.clear(); });
  refuses("an odd number of sizes", "sizes are pairs of height and width, and there are 3",
          [](Builder&, auto& op) { op.sources[0].sizes = {1, 2, 3}; });
  refuses("a size of 0", "a size of 0 must be positive",
          [](Builder&, auto& op) { op.sources[0].sizes = {1, 0}; });
  refuses("crops of several maps", "crops are taken from one map, and the source has 2",
          [](Builder& b, auto& op) { op.sources[0].x = {b.tensor({2, 9, 9, 2})}; });
  refuses("an empty crop", "the crop of 0 x 4 is empty",
          [](Builder&, auto& op) { op.sources[0].crop_height = 0; });
  for (const auto& [top, left] : {std::pair{-1, 0}, {0, -1}, {7, 0}, {0, 6}, {2147483647, 0}}) {
    refuses("a crop at " + std::to_string(top) + ", " + std::to_string(left), "leaves the map [1, 9, 9, 2]",
            [top = top, left = left](Builder&, auto& op) {
              op.sources[0].tops = {top}, op.sources[0].lefts = {left};
            });
  }
  const struct {
    const char* name;
    Window window;
    const char* expected;
  } windows[] = {
      {"a window without width", {1, 2, 3, 0, 0, 0}, "no window of 3 x 0 at row 1, column 2"},
      {"a window of negative height", {0, 0, -3, 4, 0, 0}, "no window of -3 x 4"},
      {"a window without size", {0, 1, 0, 0, 0, 0}, "no window of 0 x 0 at row 0, column 1"},
      {"a window too far off", {2147483647, 0, 2, 2, 0, 0}, "no window of 2 x 2 at row 2147483647"},
      {"no window, skipping", {0, 0, 0, 0, 2, 0}, "no window of 0 x 0 at row 0, column 0 that skips 2 rows"},
      {"an odd window, skipping", {0, 0, 2, 3, 0, 1}, "of 2 x 3 at row 0, column 0 that skips 0 rows and 1"},
      {"skipping backwards", {0, 0, 2, 2, -1, 0}, "that skips -1 rows and 0 columns"},
      {"skipping too far", {0, 0, 4, 2, 1 << 30, 0}, "that skips 1073741824 rows"}};
  for (const auto& [name, w, expected] : windows) {
    refuses(name, expected, [w = w](Builder&, auto& op) {
      op.sources[0].set_window(w.top, w.left, w.height, w.width, w.skip_rows, w.skip_columns);
    });
  }
  const auto also = [](std::function<GridSource(Builder&)> make) {
    return [=](Builder& b, auto& op) { op.sources.push_back(make(b)); };
  };
  refuses("no source", "there is no source", [](Builder&, auto& op) { op.sources.clear(); });
  refuses("sources of other sizes", "a source is 5 x 6 on the target grid, the first 5 x 5",
          also([](Builder& b) { return make_source(b.tensor({1, 5, 6, 2}), {}, {}, 0, 0, {}); }));
  refuses("sources of other dtypes", "source must be float32, and is bfloat16", also([](Builder& b) {
            return make_source(b.zeros({1, 5, 5, 2}, DType::bfloat16), {}, {}, 0, 0, {});
          }));
  refuses("sources of other batches", "sources of 2 and 3 patches do not go together",
          [](Builder& b, auto& op) {
            for (const int n : {2, 3}) {
              op.sources.push_back(make_source(b.tensor({n, 5, 5, 2}), {}, {}, 0, 0, {}));
            }
          });
  suite.bench<CropResize>("6 crops of 26x26x256 to 127x127", [](Builder& b) {
    return make_crop_resize(b.tensor({1, 127, 127, 256}), {0, 20, 40, 60, 80, 101}, {101, 80, 60, 40, 20, 0},
                            26, 26, {127, 127});
  });
  // What a side of the last level reads, and what its corners do.
  const auto last = [](Builder& b, int channels) {
    return make_source(b.tensor({1, 127, 127, channels}), {0, 20, 40, 60, 80, 101}, {101, 80, 60, 40, 20, 0},
                       26, 26, {127, 127});
  };
  suite.bench<CropResize>("windows of 3x135 of 6 maps and their crops", [=](Builder& b) {
    CropResize op = together({make_source(b.tensor({6, 127, 127, 256}), {}, {}, 0, 0, {}), last(b, 256),
                              last(b, 256), last(b, 128)});
    for (GridSource& source : op.sources) source.set_window(0, -4, 3, 135);
    return op;
  });
  suite.bench<CropResize>("the corners of 6 crops to 127x127", [=](Builder& b) {
    CropResize op = together({last(b, 256)});
    op.sources[0].set_window(0, 0, 14, 14, 113, 113);
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
