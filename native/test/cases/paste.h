#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

inline Paste make_paste(const View& y, const View& x, int top, int left, bool add = false,
                        bool transposed = false) {
  Paste op;
  op.y = {y};
  op.x = {x};
  op.top = top;
  op.left = left;
  op.add = add;
  op.transposed = transposed;
  return op;
}

inline void paste_cases(Suite& suite) {
  const Limits exact{.exact = true};
  const struct {
    Shape y, x;
    int top, left;
  } parts[] = {{{1, 1, 1, 1}, {1, 1, 1, 1}, 0, 0},      {{2, 9, 7, 3}, {2, 9, 7, 3}, 0, 0},
               {{3, 31, 33, 7}, {3, 3, 33, 7}, 0, 0},   {{3, 31, 33, 7}, {3, 3, 33, 7}, 28, 0},
               {{2, 33, 31, 21}, {2, 27, 3, 21}, 3, 0}, {{2, 33, 31, 64}, {2, 27, 3, 64}, 3, 28},
               {{1, 5, 6, 2}, {1, 1, 1, 2}, 4, 5},      {{2, 7, 6, 12}, {2, 3, 4, 12}, 2, 1}};
  for (const auto& part : parts) {
    std::ostringstream name;
    name << part.x << " into " << part.y << " at " << part.top << ", " << part.left;
    for (const bool transposed : {false, true}) {
      const Shape x = transposed ? Shape{part.x[0], part.x[2], part.x[1], part.x[3]} : part.x;
      const std::string with = transposed ? ", transposed" : "";
      suite.add<Paste>(
          name.str() + with,
          [=](Builder& b) {
            return make_paste(b.tensor(part.y), b.tensor(x), part.top, part.left, false, transposed);
          },
          exact);
      suite.add<Paste>(name.str() + with + ", added", [=](Builder& b) {
        return make_paste(b.tensor(part.y), b.tensor(x), part.top, part.left, true, transposed);
      });
    }
  }
  suite.add<Paste>(
      "NaN and infinities",
      [](Builder& b) {
        return make_paste(b.values({1, 2, 2, 1}, {NAN, 1, 2, INFINITY}),
                          b.values({1, 1, 2, 1}, {-INFINITY, NAN}), 1, 0);
      },
      exact);
  suite.add<Paste>("labels",
                   [](Builder& b) { return make_paste(b.bytes({1, 4, 5, 1}), b.bytes({1, 2, 3, 1}), 1, 2); },
                   {.bfloat16 = false});

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, Paste&)> spoil) {
    suite.refuses<Paste>(
        name, [](Builder& b) { return make_paste(b.tensor({2, 5, 6, 3}), b.tensor({2, 2, 3, 3}), 1, 2); },
        spoil, expected);
  };
  refuses("another rank", "x must have 4 dimensions",
          [](Builder& b, auto& op) { op.x = {b.tensor({6, 3})}; });
  refuses("another dtype", "x is uint8, y is float32",
          [](Builder& b, auto& op) { op.x = {b.bytes({2, 2, 3, 3})}; });
  refuses("another batch", "does not fit y [2, 5, 6, 3]",
          [](Builder& b, auto& op) { op.x = {b.tensor({1, 2, 3, 3})}; });
  refuses("other channels", "does not fit y [2, 5, 6, 3]",
          [](Builder& b, auto& op) { op.x = {b.tensor({2, 2, 3, 4})}; });
  refuses("a transposed one that is too wide", "x [2, 2, 6, 3], transposed, at row 1, column 2 leaves",
          [](Builder& b, auto& op) { op.x = {b.tensor({2, 2, 6, 3})}, op.transposed = true; });
  refuses("sums of labels", "cannot add uint8", [](Builder& b, auto& op) {
    op.y = {b.bytes({2, 5, 6, 3})}, op.x = {b.bytes({2, 2, 3, 3})}, op.add = true;
  });
  for (const auto& [top, left] : {std::pair{-1, 0}, {0, -1}, {4, 0}, {0, 4}, {2147483647, 0}}) {
    refuses("at " + std::to_string(top) + ", " + std::to_string(left), "leaves y [2, 5, 6, 3]",
            [top = top, left = left](Builder&, auto& op) { op.top = top, op.left = left; });
  }
  suite.bench<Paste>("6 strips of 3x127x7", [](Builder& b) {
    return make_paste(b.tensor({6, 127, 127, 7}), b.tensor({6, 3, 127, 7}), 0, 0);
  });
}

}  // namespace glnet::test
