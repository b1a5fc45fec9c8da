#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

inline Concat make_concat(Builder& b, int64_t n, int64_t h, int64_t w, const std::vector<int64_t>& channels) {
  Concat op;
  for (const int64_t c : channels) op.inputs.push_back({b.tensor({n, h, w, c})});
  return op;
}

inline void concat_cases(Suite& suite) {
  const Limits exact{.exact = true};
  suite.add<Concat>("one input", [](Builder& b) { return make_concat(b, 2, 3, 5, {7}); }, exact);
  suite.add<Concat>("one pixel", [](Builder& b) { return make_concat(b, 1, 1, 1, {1, 1, 1}); }, exact);
  suite.add<Concat>("whole packs", [](Builder& b) { return make_concat(b, 2, 3, 5, {16, 8, 24}); }, exact);
  suite.add<Concat>("a half pack", [](Builder& b) { return make_concat(b, 1, 3, 5, {16, 12, 8}); }, exact);
  suite.add<Concat>("odd sizes", [](Builder& b) { return make_concat(b, 2, 31, 33, {1, 64, 7, 31}); }, exact);
  suite.add<Concat>(
      "NaN and infinities",
      [](Builder& b) {
        Concat op;
        op.inputs.push_back({b.values({1, 1, 2, 2}, {NAN, 1, -INFINITY, 2})});
        op.inputs.push_back({b.values({1, 1, 2, 1}, {INFINITY, -0.0})});
        return op;
      },
      exact);
  suite.add<Concat>("labels",
                    [](Builder& b) {
                      Concat op;
                      op.inputs = {{b.bytes({1, 3, 3, 2})}, {b.bytes({1, 3, 3, 1})}};
                      return op;
                    },
                    {.bfloat16 = false});

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, Concat&)> spoil) {
    suite.refuses<Concat>(name, [](Builder& b) { return make_concat(b, 1, 2, 3, {4, 5}); }, spoil, expected);
  };
  refuses("no input", "there is no input", [](Builder&, auto& op) { op.inputs.clear(); });
  refuses("an input of another rank", "input must have 4 dimensions",
          [](Builder& b, auto& op) { op.inputs[1] = {b.tensor({2, 3, 5})}; });
  refuses("an input of another size", "input must have shape [1, 2, 3, 5], and has [1, 3, 2, 5]",
          [](Builder& b, auto& op) { op.inputs[1] = {b.tensor({1, 3, 2, 5})}; });
  refuses("an input of another dtype", "input must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.inputs[1] = {b.zeros({1, 2, 3, 5}, DType::bfloat16)}; });
  suite.bench<Concat>("127x127, 256 and 256",
                      [](Builder& b) { return make_concat(b, 1, 127, 127, {256, 256}); });
}

}  // namespace glnet::test
