// The transforms of Winograd's convolutions with 3 x 3 kernels (Lavin and Gray 2016, section 4), F(n x n, 3 x
// 3) for tiles of n x n pixels.
#pragma once

#include <cstdint>

namespace glnet::cpu {

// A form has the transforms of one row or column: y = B^T x of an input, y = G x of a kernel, y = A^T x of an
// output. `next` and `next_y` are from an element to the next one.

/// Polynomials are interpolated at 0, 1, -1 and infinity.
struct F2 {
  static constexpr int kSide = 2;
  template <class V>
  [[gnu::always_inline]] static inline void input(const V* x, int64_t next, V* y, int64_t next_y) {
    y[0] = x[0] - x[2 * next];
    y[next_y] = x[next] + x[2 * next];
    y[2 * next_y] = x[2 * next] - x[next];
    y[3 * next_y] = x[next] - x[3 * next];
  }
  template <class V>
  [[gnu::always_inline]] static inline void kernel(const V* x, int64_t next, V* y, int64_t next_y) {
    y[0] = x[0];
    y[next_y] = (x[0] + x[next] + x[2 * next]) / 2;
    y[2 * next_y] = (x[0] - x[next] + x[2 * next]) / 2;
    y[3 * next_y] = x[2 * next];
  }
  template <class V>
  [[gnu::always_inline]] static inline void output(const V* x, int64_t next, V* y, int64_t next_y) {
    y[0] = x[0] + x[next] + x[2 * next];
    y[next_y] = x[next] - x[2 * next] - x[3 * next];
  }
};

/// Interpolated at a, -a, b, -b and infinity. Of simple a and b, and of points with 0 as well, these have the
/// smallest rounding errors.
struct F3 {
  static constexpr int kSide = 3;
  static constexpr float kA = 1.0f / 2, kB = 5.0f / 4, kA2 = kA * kA, kB2 = kB * kB;
  template <class V>
  [[gnu::always_inline]] static inline void input(const V* x, int64_t next, V* y, int64_t next_y) {
    const V a = x[3 * next] - kB2 * x[next], b = kA * (x[2 * next] - kB2 * x[0]);
    const V c = x[3 * next] - kA2 * x[next], d = kB * (x[2 * next] - kA2 * x[0]);
    y[0] = a + b;
    y[next_y] = a - b;
    y[2 * next_y] = c + d;
    y[3 * next_y] = c - d;
    y[4 * next_y] = kA2 * kB2 * x[0] - (kA2 + kB2) * x[2 * next] + x[4 * next];
  }
  template <class V>
  [[gnu::always_inline]] static inline void kernel(const V* x, int64_t next, V* y, int64_t next_y) {
    constexpr double kOfA = 1 / (2.0 * kA * (kA2 - kB2)), kOfB = 1 / (2.0 * kB * (kB2 - kA2));
    const V a = kOfA * x[0] + kOfA * kA2 * x[2 * next], b = kOfA * kA * x[next];
    const V c = kOfB * x[0] + kOfB * kB2 * x[2 * next], d = kOfB * kB * x[next];
    y[0] = a + b;
    y[next_y] = b - a;
    y[2 * next_y] = c + d;
    y[3 * next_y] = d - c;
    y[4 * next_y] = x[2 * next];
  }
  template <class V>
  [[gnu::always_inline]] static inline void output(const V* x, int64_t next, V* y, int64_t next_y) {
    const V a = x[0] + x[next], b = x[0] - x[next];
    const V c = x[2 * next] + x[3 * next], d = x[2 * next] - x[3 * next];
    y[0] = a + c;
    y[next_y] = kA * b + kB * d;
    y[2 * next_y] = kA2 * a + kB2 * c + x[4 * next];
  }
};

/// Interpolated at 0, a, -a, b, -b and infinity. With these a and b the rounding errors are half of what they
/// are with 1 and 2.
struct F4 {
  static constexpr int kSide = 4;
  static constexpr float kA = 5.0f / 8, kB = 3.0f / 2, kA2 = kA * kA, kB2 = kB * kB;
  template <class V>
  [[gnu::always_inline]] static inline void input(const V* x, int64_t next, V* y, int64_t next_y) {
    const V a = x[4 * next] - kB2 * x[2 * next], b = kA * (x[3 * next] - kB2 * x[next]);
    const V c = x[4 * next] - kA2 * x[2 * next], d = kB * (x[3 * next] - kA2 * x[next]);
    y[0] = kA2 * kB2 * x[0] - (kA2 + kB2) * x[2 * next] + x[4 * next];
    y[next_y] = a + b;
    y[2 * next_y] = a - b;
    y[3 * next_y] = c + d;
    y[4 * next_y] = c - d;
    y[5 * next_y] = kA2 * kB2 * x[next] - (kA2 + kB2) * x[3 * next] + x[5 * next];
  }
  template <class V>
  [[gnu::always_inline]] static inline void kernel(const V* x, int64_t next, V* y, int64_t next_y) {
    constexpr double kOfA = 1 / (2.0 * kA2 * (kA2 - kB2)), kOfB = 1 / (2.0 * kB2 * (kB2 - kA2));
    const V a = kOfA * x[0] + kOfA * kA2 * x[2 * next], b = kOfA * kA * x[next];
    const V c = kOfB * x[0] + kOfB * kB2 * x[2 * next], d = kOfB * kB * x[next];
    y[0] = 1.0 / (kA2 * kB2) * x[0];
    y[next_y] = a + b;
    y[2 * next_y] = a - b;
    y[3 * next_y] = c + d;
    y[4 * next_y] = c - d;
    y[5 * next_y] = x[2 * next];
  }
  template <class V>
  [[gnu::always_inline]] static inline void output(const V* x, int64_t next, V* y, int64_t next_y) {
    const V a = x[next] + x[2 * next], b = x[next] - x[2 * next];
    const V c = x[3 * next] + x[4 * next], d = x[3 * next] - x[4 * next];
    y[0] = x[0] + a + c;
    y[next_y] = kA * b + kB * d;
    y[2 * next_y] = kA2 * a + kB2 * c;
    y[3 * next_y] = kA2 * kA * b + kB2 * kB * d + x[5 * next];
  }
};

}  // namespace glnet::cpu
