#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

inline Resize make_resize(const View& x, int height, int width, Interpolation interpolation) {
  Resize op;
  op.x = {x};
  op.height = height;
  op.width = width;
  op.interpolation = interpolation;
  return op;
}

inline void resize_cases(Suite& suite) {
  for (const Interpolation way : {Interpolation::bilinear, Interpolation::nearest}) {
    const bool nearest = way == Interpolation::nearest;
    const std::string prefix = nearest ? "nearest " : "bilinear ";
    const Limits limits{.exact = nearest};
    for (const Shape& shape : {Shape{1, 1, 1, 1}, Shape{2, 31, 33, 7}, Shape{1, 13, 7, 65},
                               Shape{3, 1, 16, 128}, Shape{2, 9, 1, 12}}) {
      for (const auto& [height, width] : {std::pair{1, 1}, {31, 33}, {127, 61}, {5, 3}, {62, 66}, {64, 2}}) {
        std::ostringstream name;
        name << prefix << shape << " to " << height << " x " << width;
        suite.add<Resize>(
            name.str(), [=](Builder& b) { return make_resize(b.tensor(shape), height, width, way); }, limits);
      }
    }
    suite.add<Resize>(
        prefix + "NaN and infinities",
        [=](Builder& b) {
          std::vector<double> values(5 * 6, 0.5);
          values[0] = NAN, values[8] = INFINITY, values[9] = -INFINITY, values[29] = NAN;
          return make_resize(b.values({1, 5, 6, 1}, values), 10, 9, way);
        },
        limits);
    // Each output lies on a pixel: its neighbours have weight zero.
    suite.add<Resize>(
        prefix + "NaN beside what is read",
        [=](Builder& b) {
          std::vector<double> values(9 * 9);
          for (size_t i = 0; i < values.size(); ++i)
            values[i] = i % 9 % 3 == 1 && i / 9 % 3 == 1 ? double(i) : NAN;
          return make_resize(b.values({1, 9, 9, 1}, values), 3, 3, way);
        },
        limits);
  }
  suite.add<Resize>(
      "nearest, labels",
      [](Builder& b) { return make_resize(b.bytes({2, 33, 17, 1}), 132, 31, Interpolation::nearest); },
      {.bfloat16 = false});
  suite.direct("resize", "known values", [](Device& device) {
    std::ostringstream wrong;
    const auto row = [&](Interpolation way, const std::vector<double>& values,
                         const std::vector<float>& expected) {
      Builder b(DType::float32, 1);
      const View x = b.values({1, 1, static_cast<int64_t>(values.size()), 1}, values);
      const View y = run_device(make_resize(x, 2, static_cast<int>(expected.size()), way), b, device)[0].view;
      for (size_t i = 0; i < 2 * expected.size(); ++i) {
        if (y.as<float>()[i] != expected[i % expected.size()])
          wrong << "[" << i << "] is " << y.as<float>()[i] << "; ";
      }
    };
    row(Interpolation::bilinear, {0, 4}, {0, 1, 3, 4});
    row(Interpolation::bilinear, {0, 1, 2, 3}, {0.5, 2.5});
    row(Interpolation::bilinear, {0, 4, 8}, {1, 7});
    row(Interpolation::nearest, {0, 1, 2}, {0, 0, 1, 1, 2});
    row(Interpolation::nearest, {0, 1, 2, 3, 4}, {0, 1, 3});
    return wrong.str();
  });

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, Resize&)> spoil) {
    suite.refuses<Resize>(
        name, [](Builder& b) { return make_resize(b.tensor({1, 3, 3, 2}), 2, 2, Interpolation::bilinear); },
        spoil, expected);
  };
  refuses("x of another rank", "x must have 4 dimensions",
          [](Builder& b, auto& op) { op.x = {b.tensor({3, 3})}; });
  refuses("no rows", "the size 0 x 2 must be positive", [](Builder&, auto& op) { op.height = 0; });
  refuses("negative columns", "the size 2 x -1 must be positive", [](Builder&, auto& op) { op.width = -1; });
  suite.bench<Resize>("64x64x256 to 127x127", [](Builder& b) {
    return make_resize(b.tensor({1, 64, 64, 256}), 127, 127, Interpolation::bilinear);
  });
  suite.bench<Resize>("127x127x7 to 508x508", [](Builder& b) {
    return make_resize(b.tensor({1, 127, 127, 7}), 508, 508, Interpolation::bilinear);
  });
  suite.bench<Resize>("nearest 127x127x7 to 508x508", [](Builder& b) {
    return make_resize(b.tensor({1, 127, 127, 7}), 508, 508, Interpolation::nearest);
  });
}

}  // namespace glnet::test
