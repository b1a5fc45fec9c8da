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
  const struct {
    Shape y, x;
    int top, left, skip_rows, skip_columns;
  } halves[] = {{{2, 31, 33, 7}, {2, 6, 6, 7}, 0, 0, 25, 27},
                {{3, 9, 8, 16}, {3, 4, 2, 16}, 2, 1, 3, 5},
                {{1, 9, 8, 3}, {1, 3, 4, 3}, 5, 1, 0, 2},
                {{2, 9, 7, 12}, {2, 2, 7, 12}, 0, 0, 7, 0},
                {{1, 2, 5, 1}, {1, 2, 2, 1}, 0, 0, 0, 3}};
  for (const auto& part : halves) {
    std::ostringstream name;
    name << "halves of " << part.x << " into " << part.y << " at " << part.top << ", " << part.left;
    for (const bool transposed : {false, true}) {
      const Shape x = transposed ? Shape{part.x[0], part.x[2], part.x[1], part.x[3]} : part.x;
      const std::string with = transposed ? ", transposed" : "";
      const auto make = [=](Builder& b, bool add) {
        Paste op = make_paste(b.tensor(part.y), b.tensor(x), part.top, part.left, add, transposed);
        op.skip_rows = part.skip_rows;
        op.skip_columns = part.skip_columns;
        return op;
      };
      suite.add<Paste>(name.str() + with, [=](Builder& b) { return make(b, false); }, exact);
      suite.add<Paste>(name.str() + with + ", added", [=](Builder& b) { return make(b, true); });
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
  refuses("halves of three columns", "has no halves to skip 0 rows and 1 columns",
          [](Builder&, auto& op) { op.skip_columns = 1; });
  refuses("halves of three columns, transposed", "transposed, has no halves to skip 1 rows and 0 columns",
          [](Builder&, auto& op) { op.left = 0, op.skip_rows = 1, op.transposed = true; });
  refuses("skipping backwards", "has no halves to skip -1 rows and 0 columns",
          [](Builder&, auto& op) { op.skip_rows = -1; });
  for (const int skip : {3, 2147483647}) {
    refuses("skipping " + std::to_string(skip), "leaves y [2, 5, 6, 3]",
            [skip](Builder&, auto& op) { op.skip_rows = skip; });
  }
  for (const auto& [top, left] : {std::pair{-1, 0}, {0, -1}, {4, 0}, {0, 4}, {2147483647, 0}}) {
    refuses("at " + std::to_string(top) + ", " + std::to_string(left), "leaves y [2, 5, 6, 3]",
            [top = top, left = left](Builder&, auto& op) { op.top = top, op.left = left; });
  }
  suite.bench<Paste>("6 strips of 3x127x7", [](Builder& b) {
    return make_paste(b.tensor({6, 127, 127, 7}), b.tensor({6, 3, 127, 7}), 0, 0);
  });
  suite.bench<Paste>("6 times the corners of 127x127x7", [](Builder& b) {
    Paste op = make_paste(b.tensor({6, 127, 127, 7}), b.tensor({6, 6, 6, 7}), 0, 0);
    op.skip_rows = op.skip_columns = 121;
    return op;
  });
}

}  // namespace glnet::test
