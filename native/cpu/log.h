// The logarithm of probabilities, in a form that compilers vectorise.
#pragma once

#include <bit>
#include <cstdint>

namespace glnet::cpu {

/// -log(p) for a normal p of at most 1, relative error below 1e-6; NaN of NaN. `rest` is 1 - p: given apart,
/// it keeps the error small where p is almost 1.
[[gnu::always_inline]] inline float minus_log(float p, float rest) {
  // p = 2^e (1 + f), 1 + f from sqrt(1/2) to before sqrt(2).
  constexpr int32_t kRootOfHalf = 0x3f3504f3;
  const int32_t bits = std::bit_cast<int32_t>(p) - kRootOfHalf, e = bits >> 23;
  const float scaled = std::bit_cast<float>((bits & 0x7fffff) + kRootOfHalf) - 1;
  const float f = e == 0 ? -rest : scaled;
  // log((1 + s) / (1 - s)) = 2 (s + s^3 / 3 + s^5 / 5 + ...)
  const float s = f / (2 + f), z = s * s;
  const float log = s * (2 + z * (0.666666667f + z * (0.4f + z * (0.285714286f + z * 0.222222222f))));
  return p - p - (static_cast<float>(e) * 0.693147181f + log);  // p - p: NaN of NaN
}

}  // namespace glnet::cpu
