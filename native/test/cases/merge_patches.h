#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

/// Patches on a map of 23 x 19, at its corners and in between.
inline MergePatches make_merge_patches(Builder& b, int64_t channels, int64_t side, int height, int width) {
  MergePatches op;
  op.sum = {b.floats({1, 23, 19, channels})};
  op.x = {b.tensor({5, side, side + 2, channels})};
  op.tops = {0, 0, 23 - height, 23 - height, 4};
  op.lefts = {0, 19 - width, 0, 19 - width, 3};
  op.height = height;
  op.width = width;
  return op;
}

inline void merge_patches_cases(Suite& suite) {
  for (const int channels : {1, 7, 12, 65}) {
    for (const int side : {1, 5, 31}) {
      for (const auto& [height, width] : {std::pair{1, 1}, {12, 10}, {13, 7}}) {
        std::ostringstream name;
        name << channels << " channels, " << side << " x " << side + 2 << " to " << height << " x " << width;
        suite.add<MergePatches>(name.str(), [=, height = height, width = width](Builder& b) {
          return make_merge_patches(b, channels, side, height, width);
        });
        suite.add<MergePatches>(name.str() + ", divided", [=, height = height, width = width](Builder& b) {
          MergePatches op = make_merge_patches(b, channels, side, height, width);
          for (int i = 0; i < 23; ++i) op.row_coverage.push_back(static_cast<float>(b.integer(0, 12)) / 4);
          for (int i = 0; i < 19; ++i) op.column_coverage.push_back(static_cast<float>(b.integer(0, 12)) / 4);
          return op;
        });
      }
    }
  }
  // More packs, and more elements, of a pixel than a block has threads.
  for (const int channels : {264, 1028}) {
    suite.add<MergePatches>(std::to_string(channels) + " channels, divided", [=](Builder& b) {
      MergePatches op = make_merge_patches(b, channels, 2, 12, 10);
      for (int i = 0; i < 23; ++i) op.row_coverage.push_back(static_cast<float>(b.integer(0, 12)) / 4);
      for (int i = 0; i < 19; ++i) op.column_coverage.push_back(static_cast<float>(b.integer(0, 12)) / 4);
      return op;
    });
  }
  suite.add<MergePatches>("the whole map, one patch", [](Builder& b) {
    MergePatches op;
    op.sum = {b.zeros({1, 33, 31, 3}, DType::float32)};
    op.x = {b.tensor({1, 16, 61, 3})};
    op.tops = op.lefts = {0};
    op.height = 33;
    op.width = 31;
    return op;
  });
  suite.add<MergePatches>("NaN and infinities", [](Builder& b) {
    MergePatches op;
    op.sum = {b.zeros({1, 6, 6, 1}, DType::float32)};
    op.x = {b.values({2, 2, 2, 1}, {NAN, 1, 2, INFINITY, 1, 2, 3, -INFINITY})};
    op.tops = {0, 2};
    op.lefts = {0, 2};
    op.height = op.width = 4;
    op.row_coverage = op.column_coverage = {1, 1, 2, 2, 1, 0};
    return op;
  });

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, MergePatches&)> spoil) {
    suite.refuses<MergePatches>(
        name, [](Builder& b) { return make_merge_patches(b, 3, 4, 5, 6); }, spoil, expected);
  };
  refuses("a sum of another rank", "sum must have 4 dimensions",
          [](Builder& b, auto& op) { op.sum = {b.floats({23, 19, 3})}; });
  refuses("patches of another rank", "x must have 4 dimensions",
          [](Builder& b, auto& op) { op.x = {b.tensor({4, 6, 3})}; });
  refuses("a sum in bfloat16", "sum must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.sum = {b.zeros({1, 23, 19, 3}, DType::bfloat16)}; });
  refuses("two sums", "do not fit the map",
          [](Builder& b, auto& op) { op.sum = {b.floats({2, 23, 19, 3})}; });
  refuses("other channels", "patches [5, 4, 6, 3] do not fit the map [1, 23, 19, 4]",
          [](Builder& b, auto& op) { op.sum = {b.floats({1, 23, 19, 4})}; });
  refuses("a top too few", "x has 5 patches, and there are 4 tops and 5 lefts",
          [](Builder&, auto& op) { op.tops.pop_back(); });
  refuses("a left too few", "5 tops and 4 lefts", [](Builder&, auto& op) { op.lefts.pop_back(); });
  refuses("no rows", "the size 0 x 6 must be positive", [](Builder&, auto& op) { op.height = 0; });
  for (const auto& [top, left] : {std::pair{-1, 0}, {0, -1}, {19, 0}, {0, 14}, {2147483647, 0}}) {
    refuses("a patch at " + std::to_string(top) + ", " + std::to_string(left),
            "leaves the map [1, 23, 19, 3]",
            [top = top, left = left](Builder&, auto& op) { op.tops[4] = top, op.lefts[4] = left; });
  }
  refuses("coverage of rows only", "the coverage has 23 rows and 0 columns",
          [](Builder&, auto& op) { op.row_coverage.resize(23); });
  refuses("coverage of another size", "the coverage has 19 rows and 23 columns",
          [](Builder&, auto& op) { op.row_coverage.resize(19), op.column_coverage.resize(23); });

  const auto bench = [&](const std::string& name, int64_t side, int64_t channels, int height) {
    suite.bench<MergePatches>(name, [=](Builder& b) {
      MergePatches op;
      op.sum = {b.floats({1, side, side, channels})};
      op.x = {b.tensor({6, side, side, channels})};
      for (int i = 0; i < 6; ++i) {
        op.tops.push_back(0);
        op.lefts.push_back((static_cast<int>(side) - height) * i / 5);
      }
      op.height = op.width = height;
      return op;
    });
  };
  bench("6 patches of 127x127x256 to 26x26", 127, 256, 26);
  bench("6 patches of 16x16x2048 to 3x3", 16, 2048, 3);
}

}  // namespace glnet::test
