#include <bit>
#include <cstring>

#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

[[gnu::always_inline]] inline float widen(float x) {
  return x;
}
[[gnu::always_inline]] inline float widen(bfloat16 x) {
  return static_cast<float>(x);
}
/// As float16's conversion, without branches. The product brings the exponent to float32's bias, and makes
/// normal numbers of subnormal ones.
[[gnu::always_inline]] inline float widen(float16 x) {
  const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
  const auto finite = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  const uint32_t bits = magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : finite;
  return std::bit_cast<float>(bits | static_cast<uint32_t>(x.bits & 0x8000u) << 16);
}

template <class From, class To>
GLNET_MULTIVERSION void convert(const From* x, To* __restrict y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = To(widen(x[i]));
}

template <class From>
void cast_from(const Cast& op, int threads) {
  with_type(op.kName, op.dtype, [&](auto t) {
    using To = decltype(t);
    parallel_ranges(threads, op.x.size(), [&](int64_t begin, int64_t end) {
      if constexpr (std::is_same_v<From, To>) {
        std::memcpy(op.y.as<To>() + begin, op.x.as<const From>() + begin,
                    static_cast<size_t>(end - begin) * sizeof(To));
      } else {
        convert(op.x.as<const From>() + begin, op.y.as<To>() + begin, end - begin);
      }
    });
  });
}

}  // namespace

void cast(const Cast& op, const Context& context) {
  if (op.x.dtype == DType::float16) return cast_from<float16>(op, context.threads);
  with_type(op.kName, op.x.dtype, [&](auto t) { cast_from<decltype(t)>(op, context.threads); });
}

}  // namespace glnet::cpu
