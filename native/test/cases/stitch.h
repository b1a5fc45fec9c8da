#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

/// Patches of height x width pixels, spread over a turned image so that they overlap, with a few past its
/// edges.
inline StitchSource make_stitch_source(Builder& b, int image_height, int image_width, int turn, int height,
                                       int width, const Shape& logits) {
  StitchSource s;
  s.height = height;
  s.width = width;
  s.turn = turn;
  const int h = turn_swaps(turn) ? image_width : image_height,
            w = turn_swaps(turn) ? image_height : image_width;
  for (int top = -3; top < h; top += std::max(1, height * 2 / 3)) {
    for (int left = -2; left < w; left += std::max(1, width * 3 / 4)) {
      s.tops.push_back(top);
      s.lefts.push_back(left);
    }
  }
  s.logits = {b.tensor({static_cast<int64_t>(s.tops.size()), logits[0], logits[1], logits[2]})};
  return s;
}

inline Stitch make_stitch(std::vector<StitchSource> sources, int image_height, int image_width, int row,
                          int rows) {
  Stitch op;
  op.sources = std::move(sources);
  op.image_height = image_height;
  op.image_width = image_width;
  op.row = row;
  op.rows = rows;
  return op;
}

/// A grid of patches with logits at a quarter of the resolution, as an image is predicted.
inline Stitch make_image_stitch(Builder& b, int side, int patch, int step, int64_t classes) {
  StitchSource s;
  s.height = s.width = patch;
  for (int top = 0; top + patch <= side; top += step) {
    for (int left = 0; left + patch <= side; left += step) {
      s.tops.push_back(top);
      s.lefts.push_back(left);
    }
  }
  s.logits = {b.tensor({static_cast<int64_t>(s.tops.size()), patch / 4, patch / 4, classes}, -4, 4)};
  return make_stitch({s}, side, side, 0, side);
}

inline void stitch_cases(Suite& suite) {
  // Confidence is rounded from float32; labels are exact.
  const Limits limits{.bytes = {{"confidence", 1}}};
  for (int turn = 0; turn < 8; ++turn) {
    for (const int64_t classes : {1, 2, 7, 21}) {
      suite.add<Stitch>(
          "turn " + std::to_string(turn) + ", " + std::to_string(classes) + " classes",
          [=](Builder& b) {
            return make_stitch({make_stitch_source(b, 61, 83, turn, 20, 28, {5, 7, classes})}, 61, 83, 0, 61);
          },
          limits);
    }
    suite.add<Stitch>(
        "turn " + std::to_string(turn) + ", a band, cells of uneven size",
        [=](Builder& b) {
          return make_stitch({make_stitch_source(b, 83, 61, turn, 31, 23, {13, 7, 7})}, 83, 61, 33, 17);
        },
        limits);
    suite.add<Stitch>(
        "turn " + std::to_string(turn) + ", logits finer than pixels",
        [=](Builder& b) {
          return make_stitch({make_stitch_source(b, 17, 31, turn, 7, 5, {16, 31, 3})}, 17, 31, 1, 13);
        },
        limits);
  }
  suite.add<Stitch>(
      "all turns, several scales, and a map of the whole image",
      [](Builder& b) {
        std::vector<StitchSource> sources;
        for (int turn = 0; turn < 8; ++turn) {
          sources.push_back(make_stitch_source(b, 97, 71, turn, 16 + turn, 24, {4, 6, 7}));
          const bool swaps = turn_swaps(turn);
          StitchSource whole;
          whole.logits = {b.tensor({1, 9, 11, 7})};
          whole.tops = whole.lefts = {0};
          whole.height = swaps ? 71 : 97;
          whole.width = swaps ? 97 : 71;
          whole.turn = turn;
          sources.push_back(whole);
        }
        return make_stitch(sources, 97, 71, 0, 97);
      },
      limits);
  suite.add<Stitch>(
      "a wide and tall image",
      [](Builder& b) {
        return make_stitch({make_stitch_source(b, 131, 2311, 0, 60, 500, {15, 125, 2})}, 131, 2311, 0, 131);
      },
      limits);
  suite.add<Stitch>(
      "256 classes",
      [](Builder& b) {
        return make_stitch({make_stitch_source(b, 31, 67, 5, 16, 16, {4, 4, 256})}, 31, 67, 0, 31);
      },
      limits);
  suite.add<Stitch>(
      "256 classes, many small patches",
      [](Builder& b) {
        return make_stitch({make_stitch_source(b, 31, 67, 2, 8, 8, {2, 2, 256})}, 31, 67, 0, 31);
      },
      limits);
  suite.add<Stitch>(
      "one pixel",
      [](Builder& b) { return make_stitch({make_stitch_source(b, 1, 1, 0, 4, 4, {1, 1, 2})}, 1, 1, 0, 1); },
      limits);
  suite.add<Stitch>(
      "pixels without a patch, patches far outside",
      [](Builder& b) {
        StitchSource s;
        s.height = s.width = 8;
        s.tops = {3, 500, -2147483647 - 1, 2147483647, 9};
        s.lefts = {5, 500, 4, 2147483647, -8};
        s.logits = {b.tensor({5, 2, 2, 3}, 1, 2)};
        return make_stitch({s}, 31, 33, 0, 31);
      },
      limits);
  suite.add<Stitch>(
      "NaN and infinities",
      [](Builder& b) {
        StitchSource s;
        s.height = s.width = 8;
        s.tops = {0, 2};
        s.lefts = {0, 3};
        s.logits = {b.values({2, 2, 2, 3}, {NAN,       1, 2,        1, INFINITY, 0, -INFINITY, -INFINITY,
                                            -INFINITY, 1, NAN,      9, 1,        2, 3,         -INFINITY,
                                            1,         2, INFINITY, 4, 4,        0, -INFINITY, NAN})};
        return make_stitch({s}, 11, 13, 0, 11);
      },
      limits);
  suite.add<Stitch>(
      "an image as predicted", [](Builder& b) { return make_image_stitch(b, 306, 124, 91, 7); }, limits);
  suite.direct("stitch", "known labels and confidence", [](Device& device) {
    Builder b(DType::float32, 1);
    StitchSource s;
    s.logits = {b.values({2, 1, 1, 2}, {0, 1, 0, 3})};
    s.tops = {0, 0};
    s.lefts = {0, 1};
    s.height = 1;
    s.width = 2;
    const auto outputs = run_device(make_stitch({s}, 1, 4, 0, 1), b, device);
    // Sums: 1; 4 over two patches; 3; none.
    const uint8_t labels[] = {1, 1, 1, 0}, confidence[] = {186, 225, 243, 0};
    const bool same =
        !std::memcmp(outputs[0].view.data, labels, 4) && !std::memcmp(outputs[1].view.data, confidence, 4);
    return same ? "" : "labels or confidence are not as expected";
  });

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, Stitch&)> spoil) {
    suite.refuses<Stitch>(
        name,
        [](Builder& b) { return make_stitch({make_stitch_source(b, 9, 9, 0, 4, 4, {2, 2, 3})}, 9, 9, 0, 9); },
        spoil, expected);
  };
  refuses("no source", "there is no source", [](Builder&, auto& op) { op.sources.clear(); });
  refuses("an empty image", "the image of 9 x 0 is empty", [](Builder&, auto& op) { op.image_width = 0; });
  refuses("a negative row", "the band of 9 rows from row -1 leaves", [](Builder&, auto& op) { op.row = -1; });
  refuses("no rows", "the band of 0 rows from row 0 leaves", [](Builder&, auto& op) { op.rows = 0; });
  refuses("rows past the image", "the band of 9 rows from row 1 leaves the image of 9 rows",
          [](Builder&, auto& op) { op.row = 1; });
  refuses("logits of another rank", "logits must have 4 dimensions",
          [](Builder& b, auto& op) { op.sources[0].logits = {b.tensor({2, 2, 3})}; });
  refuses("257 classes", "logits of 257 classes; expected 257, at most 256", [](Builder& b, auto& op) {
    op.sources[0].logits = {b.tensor({op.sources[0].logits.dim(0), 1, 1, 257})};
  });
  refuses("sources of different classes", "logits of 4 classes; expected 3", [](Builder& b, auto& op) {
    op.sources.push_back(make_stitch_source(b, 9, 9, 0, 4, 4, {2, 2, 4}));
  });
  refuses("sources of different dtypes", "logits must be float32, and is bfloat16", [](Builder& b, auto& op) {
    op.sources.push_back(op.sources[0]);
    op.sources[1].logits = {b.zeros(op.sources[0].logits.shape, DType::bfloat16)};
  });
  refuses("a top too few", "tops and", [](Builder&, auto& op) { op.sources[0].tops.pop_back(); });
  refuses("a left too few", "tops and", [](Builder&, auto& op) { op.sources[0].lefts.pop_back(); });
  refuses("patches without rows", "patches of 0 x 4 are empty",
          [](Builder&, auto& op) { op.sources[0].height = 0; });
  refuses("turn 8", "turn 8 must be from 0 to 7", [](Builder&, auto& op) { op.sources[0].turn = 8; });

  suite.bench<Stitch>("2448x2448x7 from 36 patches of 127x127",
                      [](Builder& b) { return make_image_stitch(b, 2448, 508, 388, 7); });
  suite.bench<Stitch>("2448x2448x7 from 36 patches, 8 turns", [](Builder& b) {
    Stitch op = make_image_stitch(b, 2448, 508, 388, 7);
    for (int turn = 1; turn < 8; ++turn) {
      op.sources.push_back(op.sources[0]);
      op.sources.back().turn = turn;
    }
    return op;
  });
  suite.bench<Stitch>("2448x2448x7 from 36 patches, unaligned", [](Builder& b) {
    Stitch op = make_image_stitch(b, 2448, 508, 388, 7);
    for (size_t i = 0; i < op.sources[0].tops.size(); ++i) {
      op.sources[0].tops[i] -= static_cast<int>(i * 3 % 7);
      op.sources[0].lefts[i] -= static_cast<int>(i * 5 % 7);
    }
    return op;
  });
}

}  // namespace glnet::test
