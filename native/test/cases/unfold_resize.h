#pragma once

#include <cmath>

#include "test/cases/crop_resize.h"

namespace glnet::test {

inline UnfoldResize make_unfold_resize(const GridSource& source, int kernel, int height, int width) {
  UnfoldResize op;
  op.source = source;
  op.kernel = kernel;
  op.height = height;
  op.width = width;
  return op;
}

inline void unfold_resize_cases(Suite& suite) {
  const struct {
    int height, width;
  } sizes[] = {{1, 1}, {2, 3}, {7, 11}, {13, 5}, {31, 33}};
  for (const int kernel : {1, 3, 5, 9}) {
    for (const auto& [height, width] : sizes) {
      std::ostringstream name;
      name << "kernel " << kernel << ", to " << height << " x " << width;
      suite.add<UnfoldResize>(name.str(), [=](Builder& b) {
        return make_unfold_resize(make_source(b.tensor({2, 7, 11, 33}), {}, {}, 0, 0, {}), kernel, height,
                                  width);
      });
      suite.add<UnfoldResize>(name.str() + ", crops", [=](Builder& b) {
        return make_unfold_resize(make_source(b.tensor({1, 23, 19, 7}), {0, 16, 5}, {8, 0, 3}, 7, 11, {}),
                                  kernel, height, width);
      });
      suite.add<UnfoldResize>(name.str() + ", resized crops", [=](Builder& b) {
        return make_unfold_resize(make_source(b.tensor({1, 9, 9, 5}), {0, 5}, {1, 2}, 4, 4, {13, 17}), kernel,
                                  height, width);
      });
      suite.add<UnfoldResize>(name.str() + ", resized twice", [=](Builder& b) {
        return make_unfold_resize(make_source(b.tensor({1, 5, 6, 3}), {}, {}, 0, 0, {8, 8, 31, 29}), kernel,
                                  height, width);
      });
    }
  }
  for (const int channels : {4, 8, 64, 100, 264, 2064}) {
    suite.add<UnfoldResize>(std::to_string(channels) + " channels", [=](Builder& b) {
      return make_unfold_resize(make_source(b.tensor({2, 4, 5, channels}), {}, {}, 0, 0, {}), 3, 2, 3);
    });
    suite.add<UnfoldResize>(std::to_string(channels) + " channels, resized crops", [=](Builder& b) {
      return make_unfold_resize(make_source(b.tensor({1, 7, 6, channels}), {0, 4}, {1, 2}, 3, 3, {9, 8}), 3,
                                2, 3);
    });
  }
  suite.add<UnfoldResize>("one pixel", [](Builder& b) {
    return make_unfold_resize(make_source(b.tensor({1, 1, 1, 1}), {}, {}, 0, 0, {}), 3, 2, 2);
  });
  suite.add<UnfoldResize>("NaN and infinities", [](Builder& b) {
    const View x = b.values({1, 3, 3, 1}, {NAN, 1, 2, INFINITY, 3, 4, -INFINITY, 5, 6});
    return make_unfold_resize(make_source(x, {}, {}, 0, 0, {}), 3, 3, 3);
  });

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, UnfoldResize&)> spoil) {
    suite.refuses<UnfoldResize>(
        name,
        [](Builder& b) {
          return make_unfold_resize(make_source(b.tensor({2, 5, 6, 3}), {}, {}, 0, 0, {}), 3, 2, 2);
        },
        spoil, expected);
  };
  refuses("a window", "must have no window", [](Builder&, auto& op) { op.source.set_window(0, 0, 2, 2); });
  refuses("an even kernel", "the kernel's side is 2", [](Builder&, auto& op) { op.kernel = 2; });
  refuses("no kernel", "the kernel's side is 0", [](Builder&, auto& op) { op.kernel = 0; });
  refuses("a huge kernel", "the kernel's side is 101", [](Builder&, auto& op) { op.kernel = 101; });
  refuses("no rows", "there is no map of 0 x 2", [](Builder&, auto& op) { op.height = 0; });
  refuses("no columns", "there is no map of 2 x -1", [](Builder&, auto& op) { op.width = -1; });
  for (const int kernel : {3, 5}) {
    suite.bench<UnfoldResize>(
        "6 maps of 127x127x256 to 26x26, kernel " + std::to_string(kernel), [=](Builder& b) {
          return make_unfold_resize(make_source(b.tensor({6, 127, 127, 256}), {}, {}, 0, 0, {}), kernel, 26,
                                    26);
        });
  }
  suite.bench<UnfoldResize>("6 crops of 26x26x256 to 127x127 to 26x26, kernel 5", [](Builder& b) {
    return make_unfold_resize(make_source(b.tensor({1, 127, 127, 256}), {0, 20, 40, 60, 80, 101},
                                          {101, 80, 60, 40, 20, 0}, 26, 26, {127, 127}),
                              5, 26, 26);
  });
  suite.bench<UnfoldResize>("2 maps of 127x127x256 to 26x26, kernel 5", [](Builder& b) {
    return make_unfold_resize(make_source(b.tensor({2, 127, 127, 256}), {}, {}, 0, 0, {}), 5, 26, 26);
  });
}

}  // namespace glnet::test
