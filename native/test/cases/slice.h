#pragma once

#include <cmath>

#include "test/cases/concat.h"
#include "test/harness.h"

namespace glnet::test {

inline Slice make_slice(const View& x, int first, int count) {
  Slice op;
  op.x = {x};
  op.first = first;
  op.count = count;
  return op;
}

inline void slice_cases(Suite& suite) {
  const Limits exact{.exact = true};
  struct Part {
    int channels, first, count;
  };
  for (const Part& part :
       {Part{1, 0, 1}, {7, 0, 7}, {31, 0, 5}, {31, 7, 13}, {31, 30, 1}, {64, 32, 32}, {48, 4, 16}}) {
    std::ostringstream name;
    name << part.count << " of " << part.channels << " channels from " << part.first;
    suite.add<Slice>(
        name.str(),
        [=](Builder& b) { return make_slice(b.tensor({2, 31, 33, part.channels}), part.first, part.count); },
        exact);
  }
  suite.add<Slice>(
      "NaN and infinities",
      [](Builder& b) {
        return make_slice(b.values({1, 1, 2, 3}, {NAN, 1, INFINITY, NAN, -0.0, -INFINITY}), 1, 2);
      },
      exact);
  suite.add<Slice>("labels", [](Builder& b) { return make_slice(b.bytes({1, 3, 3, 5}), 1, 3); },
                   {.bfloat16 = false});
  for (const int index : {0, 1, 2}) {
    suite.gradient<Concat>(
        "slice, input " + std::to_string(index),
        [](Builder& b) { return make_concat(b, 2, 3, 5, {3, 1, 2}); }, "y", "inputs",
        [=](Builder& b, const Concat&, const View& dy) {
          const int first[] = {0, 3, 4}, count[] = {3, 1, 2};
          return View(evaluated(make_slice(dy, first[index], count[index]), b).y);
        },
        index);
  }

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, Slice&)> spoil) {
    suite.refuses<Slice>(
        name, [](Builder& b) { return make_slice(b.tensor({1, 2, 3, 5}), 1, 3); }, spoil, expected);
  };
  refuses("another rank", "x must have 4 dimensions",
          [](Builder& b, auto& op) { op.x = {b.tensor({6, 5})}; });
  refuses("no channel", "0 channels from 1 are not in x", [](Builder&, auto& op) { op.count = 0; });
  refuses("a negative channel", "3 channels from -1 are not in x", [](Builder&, auto& op) { op.first = -1; });
  refuses("too many channels", "3 channels from 3 are not in x [1, 2, 3, 5]",
          [](Builder&, auto& op) { op.first = 3; });
  suite.bench<Slice>("6x127x127, 256 of 512",
                     [](Builder& b) { return make_slice(b.tensor({6, 127, 127, 512}), 256, 256); });
}

}  // namespace glnet::test
