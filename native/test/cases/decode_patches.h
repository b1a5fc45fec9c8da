#pragma once

#include "test/harness.h"

namespace glnet::test {

inline DecodePatches make_decode_patches(Builder& b, const Shape& window, std::vector<int> tops,
                                         std::vector<int> lefts, int height, int width, int turn) {
  DecodePatches op;
  op.x = {b.bytes(window)};
  op.tops = std::move(tops);
  op.lefts = std::move(lefts);
  op.height = height;
  op.width = width;
  op.turn = turn;
  op.dtype = b.dtype();
  return op;
}

inline void decode_patches_cases(Suite& suite) {
  const Limits exact{.exact = true};
  for (int turn = 0; turn < 8; ++turn) {
    const std::string prefix = "turn " + std::to_string(turn) + ", ";
    for (const int channels : {1, 3, 4}) {
      suite.add<DecodePatches>(
          prefix + std::to_string(channels) + " channels",
          [=](Builder& b) {
            return make_decode_patches(b, {61, 67, channels}, {0, 0, 30, 30, 13}, {0, 30, 0, 30, 7}, 31, 29,
                                       turn);
          },
          exact);
    }
    suite.add<DecodePatches>(
        prefix + "mirrored many times",
        [=](Builder& b) { return make_decode_patches(b, {5, 7, 3}, {0, 4, 2}, {0, 3, 4}, 33, 67, turn); },
        exact);
    suite.add<DecodePatches>(
        prefix + "rows of whole fours, mirrored",
        [=](Builder& b) { return make_decode_patches(b, {23, 21, 3}, {0, 20, 3}, {0, 2, 19}, 13, 32, turn); },
        exact);
    suite.add<DecodePatches>(
        prefix + "two pixels high",
        [=](Builder& b) { return make_decode_patches(b, {2, 31, 3}, {0, 1}, {0, 1}, 9, 11, turn); }, exact);
    suite.add<DecodePatches>(
        prefix + "one pixel wide",
        [=](Builder& b) { return make_decode_patches(b, {31, 1, 3}, {0}, {0}, 40, 50, turn); }, exact);
    suite.add<DecodePatches>(
        prefix + "one pixel",
        [=](Builder& b) { return make_decode_patches(b, {1, 1, 1}, {0}, {0}, 3, 2, turn); }, exact);
  }
  suite.add<DecodePatches>(
      "every byte",
      [](Builder& b) {
        DecodePatches op = make_decode_patches(b, {1, 256, 1}, {0}, {0}, 1, 256, 0);
        for (int i = 0; i < 256; ++i) op.x.as<uint8_t>()[i] = static_cast<uint8_t>(i);
        return op;
      },
      exact);
  suite.direct("decode_patches", "known mirror images", [](Device& device) {
    Builder b(DType::float32, 1);
    DecodePatches op = make_decode_patches(b, {1, 3, 1}, {0}, {1}, 1, 8, 0);
    for (int i = 0; i < 3; ++i) op.x.as<uint8_t>()[i] = static_cast<uint8_t>(51 * i);
    const View got = run_device(op, b, device)[0].view;
    const float expected[] = {0.2f, 0.4f, 0.2f, 0, 0.2f, 0.4f, 0.2f, 0};
    return std::memcmp(got.data, expected, sizeof expected) ? "pixels are not as expected" : "";
  });
  suite.direct("decode_patches", "the turns of abc over def", [](Device& device) {
    std::ostringstream wrong;
    const char* expected[] = {"abcdef", "cfbead", "fedcba", "daebfc", "cbafed", "adbecf", "defabc", "fcebda"};
    for (int turn = 0; turn < 8; ++turn) {
      Builder b(DType::float32, 1);
      const int h = turn_swaps(turn) ? 3 : 2, w = 5 - h;
      DecodePatches op = make_decode_patches(b, {2, 3, 1}, {0}, {0}, h, w, turn);
      std::memcpy(op.x.data, "abcdef", 6);
      const View y = run_device(op, b, device)[0].view;
      for (int i = 0; i < 6; ++i) {
        const auto [row, column] = turn_source(turn, 2, 3, i / w, i % w);
        if (turn_target(turn, 2, 3, row, column) != std::pair<int64_t, int64_t>(i / w, i % w)) {
          wrong << "turn_target does not undo turn_source for turn " << turn << "; ";
        }
        if (y.as<float>()[i] != static_cast<float>(expected[turn][i]) / 255)
          wrong << "turn " << turn << " is wrong; ";
      }
    }
    return wrong.str();
  });

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, DecodePatches&)> spoil) {
    suite.refuses<DecodePatches>(
        name, [](Builder& b) { return make_decode_patches(b, {9, 7, 3}, {1}, {2}, 4, 4, 0); }, spoil,
        expected);
  };
  refuses("pixels of another rank", "x must have 3 dimensions",
          [](Builder& b, auto& op) { op.x = {b.bytes({9, 7})}; });
  refuses("pixels that are not bytes", "x must be uint8, and is float32",
          [](Builder& b, auto& op) { op.x = {b.floats({9, 7, 3})}; });
  refuses("turn -1", "turn -1 must be from 0 to 7", [](Builder&, auto& op) { op.turn = -1; });
  refuses("no rows", "the size 0 x 4 must be positive", [](Builder&, auto& op) { op.height = 0; });
  refuses("no patch", "there are 0 tops and 0 lefts",
          [](Builder&, auto& op) { op.tops.clear(), op.lefts.clear(); });
  refuses("a left too few", "there are 1 tops and 0 lefts", [](Builder&, auto& op) { op.lefts.clear(); });
  for (const auto& [top, left] : {std::pair{-1, 0}, {0, -1}, {9, 0}, {0, 7}}) {
    refuses("a patch at " + std::to_string(top) + ", " + std::to_string(left),
            "lies outside the window of 9 x 7",
            [top = top, left = left](Builder&, auto& op) { op.tops = {top}, op.lefts = {left}; });
  }
  refuses("a patch outside the turned window", "lies outside the window of 7 x 9",
          [](Builder&, auto& op) { op.turn = 1, op.tops = {7}; });
  for (const DType dtype : {DType::uint8, DType::float16}) {
    refuses(std::string("to ") + name_of(dtype), std::string("cannot decode to ") + name_of(dtype),
            [=](Builder&, auto& op) { op.dtype = dtype; });
  }
  for (const int turn : {0, 1, 6}) {
    suite.bench<DecodePatches>("6 patches of 508x508x3, turn " + std::to_string(turn), [=](Builder& b) {
      return make_decode_patches(b, {2448, 2448, 3}, {0, 0, 0, 388, 388, 388},
                                 {0, 388, 776, 1164, 1552, 1940}, 508, 508, turn);
    });
  }
}

}  // namespace glnet::test
