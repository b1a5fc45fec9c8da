#pragma once

#include <bit>
#include <cmath>

#include "test/harness.h"

namespace glnet::test {

inline Cast make_cast(const View& x, DType dtype) {
  Cast op;
  op.x = {x};
  op.dtype = dtype;
  return op;
}

/// Every value of a 16-bit format.
inline View all_values(Builder& b, DType dtype) {
  const View view = b.zeros({65536}, dtype);
  for (int64_t i = 0; i < view.size(); ++i) view.as<uint16_t>()[i] = static_cast<uint16_t>(i);
  return view;
}

/// Every upper half of a float32, with lower halves on both sides of a tie and on it.
inline View floats_near_ties(Builder& b) {
  const View view = b.zeros({65536, 6}, DType::float32);
  const uint32_t lower[] = {0x0000, 0x0001, 0x7fff, 0x8000, 0x8001, 0xffff};
  for (int64_t i = 0; i < view.size(); ++i) {
    view.as<float>()[i] = std::bit_cast<float>(static_cast<uint32_t>(i / 6) << 16 | lower[i % 6]);
  }
  return view;
}

inline void cast_cases(Suite& suite) {
  const Limits exact{.bfloat16 = false, .exact = true};
  for (const DType to : {DType::float32, DType::bfloat16}) {
    const std::string name = std::string(" to ") + name_of(to);
    for (const DType from : {DType::float16, DType::bfloat16}) {
      suite.add<Cast>(
          name_of(from) + name, [=](Builder& b) { return make_cast(all_values(b, from), to); }, exact);
    }
    suite.add<Cast>("float32" + name, [=](Builder& b) { return make_cast(floats_near_ties(b), to); }, exact);
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{31}, Shape{2, 33, 31, 7}}) {
      suite.add<Cast>(
          "float32" + name + ", " + std::to_string(element_count(shape)),
          [=](Builder& b) { return make_cast(b.floats(shape), to); }, exact);
    }
  }
  suite.direct("cast", "known values of both formats", [](Device&) {
    std::ostringstream wrong;
    const auto half = [&](uint16_t bits, float expected) {
      float16 x;
      x.bits = bits;
      if (static_cast<float>(x) != expected)
        wrong << "float16 " << bits << " is " << static_cast<float>(x) << "; ";
    };
    half(0x0001, 0x1p-24f), half(0x03ff, 1023 * 0x1p-24f), half(0x0400, 0x1p-14f), half(0x3c00, 1);
    half(0xc248, -3.140625f), half(0x7bff, 65504), half(0x7c00, INFINITY), half(0xfc00, -INFINITY);
    const auto brain = [&](uint32_t bits, uint16_t expected) {
      const uint16_t got = bfloat16(std::bit_cast<float>(bits)).bits;
      if (got != expected) wrong << "bfloat16 of " << bits << " is " << got << "; ";
    };
    brain(0x3f808000, 0x3f80), brain(0x3f808001, 0x3f81), brain(0x3f818000, 0x3f82),
        brain(0x3f817fff, 0x3f81);
    brain(0x7f7fffff, 0x7f80), brain(0x7f800000, 0x7f80), brain(0x7f800001, 0x7fc0),
        brain(0xffc12345, 0xffc1);
    brain(0x00000001, 0x0000), brain(0x00018000, 0x0002), brain(0x80008001, 0x8001);
    return wrong.str();
  });
  suite.refuses<Cast>(
      "labels", [](Builder& b) { return make_cast(b.bytes({3}), DType::float32); },
      "x must be floating, and is uint8");
  for (const DType to : {DType::float16, DType::int32, DType::uint8}) {
    suite.refuses<Cast>(
        std::string("to ") + name_of(to), [=](Builder& b) { return make_cast(b.floats({3}), to); },
        std::string("cannot cast to ") + name_of(to));
  }
  suite.bench<Cast>("float16 to float32, 16 Mi",
                    [](Builder& b) { return make_cast(b.zeros({1 << 24}, DType::float16), DType::float32); });
  suite.bench<Cast>("float32 to bfloat16, 127x127x256",
                    [](Builder& b) { return make_cast(b.floats({1, 127, 127, 256}), DType::bfloat16); });
}

}  // namespace glnet::test
