#include <cstring>
#include <type_traits>

#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

constexpr int kVectorBytes = 64;
/// Outputs a thread takes at a time, in rows: neighbouring ones share rows of x, which its cache then has.
constexpr int64_t kRows = 4;

/// What elements of type T are compared as: integers in the order of the values, from minus infinity, which
/// is the smallest, to infinity, and then all NaNs. Comparisons of floats would need one more for NaN, and
/// there are none of bfloat16.
template <class T>
struct Ordered {
  static constexpr bool kNarrow = sizeof(T) == 2;
  using Signed = std::conditional_t<kNarrow, int16_t, int32_t>;
  using Unsigned = std::conditional_t<kNarrow, uint16_t, uint32_t>;
  static constexpr Signed kSign = 8 * sizeof(T) - 1;
  static constexpr Signed kMost = static_cast<Signed>(static_cast<Unsigned>(-1) >> 1);
  /// NaNs of either sign: the negative ones would be the smallest, and wrap around to the other end.
  static constexpr Unsigned kNaNs = kNarrow ? 0x7f : 0x7fffff;
  static constexpr int kLanes = kVectorBytes / sizeof(T);

  typedef Signed Vector __attribute__((vector_size(kVectorBytes)));
  typedef Unsigned Bits __attribute__((vector_size(kVectorBytes)));

  [[gnu::always_inline]] static void reverse_negative(Vector& v) { v ^= (v >> kSign) & kMost; }
  [[gnu::always_inline]] static void load(Vector& v, const T* from, size_t n) {
    std::memcpy(&v, from, n * sizeof(T));
    reverse_negative(v);
    v = (Vector)((Bits)v - kNaNs);
  }
  [[gnu::always_inline]] static void store(T* to, const Vector& from, size_t n) {
    Vector v = (Vector)((Bits)from + kNaNs);
    reverse_negative(v);
    std::memcpy(static_cast<void*>(to), &v, n * sizeof(T));
  }
};

/// What of x lies under a window, from the element at `corner` on; rows lie `row` elements apart, columns
/// `column`.
template <class T>
struct Window {
  const T* corner;
  int64_t rows, columns, row, column;
};

/// The largest of `kVectors` vectors of channels, of which the last one has n.
template <int kVectors, class T>
[[gnu::always_inline]] inline void pool(T* y, const Window<T>& window, int64_t first, size_t n) {
  using O = Ordered<T>;
  const auto lanes = [&](int v) { return v + 1 < kVectors ? static_cast<size_t>(O::kLanes) : n; };
  typename O::Vector largest[kVectors];
  for (auto& v : largest) v = typename O::Vector{} - O::kMost - 1;
  for (int64_t r = 0; r < window.rows; ++r) {
    const T* x = window.corner + r * window.row + first;
    for (int64_t s = 0; s < window.columns; ++s, x += window.column) {
      for (int v = 0; v < kVectors; ++v) {
        typename O::Vector value{};
        O::load(value, x + v * O::kLanes, lanes(v));
        largest[v] = value > largest[v] ? value : largest[v];
      }
    }
  }
  for (int v = 0; v < kVectors; ++v) O::store(y + first + v * O::kLanes, largest[v], lanes(v));
}

/// One row of outputs, from the rows `top` to before `bottom` of the map x.
template <class T>
GLNET_MULTIVERSION void pool_row(T* y, const T* x, int64_t top, int64_t bottom, int64_t w, int64_t channels,
                                 int64_t outputs, int64_t kernel, int64_t stride, int64_t padding) {
  constexpr int kLanes = Ordered<T>::kLanes;
  for (int64_t column = 0; column < outputs; ++column, y += channels) {
    const int64_t left = std::max<int64_t>(column * stride - padding, 0);
    const int64_t right = std::min(column * stride - padding + kernel, w);
    const Window<T> window{x + (top * w + left) * channels, bottom - top, right - left, w * channels,
                           channels};
    int64_t c = 0;
    for (; c + 4 * kLanes <= channels; c += 4 * kLanes) pool<4>(y, window, c, kLanes);
    for (; c + 2 * kLanes <= channels; c += 2 * kLanes) pool<2>(y, window, c, kLanes);
    for (; c + kLanes <= channels; c += kLanes) pool<1>(y, window, c, kLanes);
    if (c < channels) pool<1>(y, window, c, static_cast<size_t>(channels - c));
  }
}

}  // namespace

void max_pool(const MaxPool& op, const Context& context) {
  with_type(op.kName, op.x.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t h = op.x.dim(1), w = op.x.dim(2), channels = op.x.dim(3);
    const int64_t height = op.y.dim(1), width = op.y.dim(2), rows = op.y.dim(0) * height;
    parallel_for(context.threads, (rows + kRows - 1) / kRows, [&](int64_t block) {
      for (int64_t i = block * kRows; i < std::min((block + 1) * kRows, rows); ++i) {
        const int64_t top = i % height * op.stride - op.padding;
        pool_row(op.y.as<T>() + i * width * channels, op.x.as<const T>() + i / height * h * w * channels,
                 std::max<int64_t>(top, 0), std::min(top + op.kernel, h), w, channels, width, op.kernel,
                 op.stride, op.padding);
      }
    });
  });
}

}  // namespace glnet::cpu
