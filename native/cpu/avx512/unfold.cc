#include "cpu/avx512/unfold.h"

#include <omp.h>

#include "cpu/avx512/vector.h"
#include "cpu/machine.h"
#include "cpu/parallel.h"
#include "cpu/sampling.h"

namespace glnet::cpu {
namespace {

/// Of a map that is resized: floats of these lie together.
constexpr int64_t kChannelsAtOnce = 64;

/// What a position of y reads along one axis of the map: the tap in the middle of the kernel
/// pixel `index`, and the next one unless `far` is 0; the other taps their neighbours, with the same weights.
struct Blend {
  int64_t index;
  float near, far;
};

Blend blend_at(const AxisSampling& sampling, int64_t i) {
  const AxisSampling::Entry *first = sampling.begin(i), *last = sampling.end(i) - 1;
  return {first->index, first->weight, last == first ? 0 : last->weight};
}

/// A map, or a crop of one, from row `first` on.
template <class T>
struct Map {
  const T* x;
  int64_t first, height, width;
  int64_t pixel, stride;  ///< elements to the next column, the next row
};

struct Pixel {
  Blend down, right;
  int64_t ahead;  ///< columns of the map to what the next pixel reads
};

/// Up to 16 channels of all taps of a pixel of y, `tap` elements apart. What they read overlaps: each row of
/// the map is blended along its columns once, then mixed with the row above. `kDown`, `kRight`: whether there
/// is a second row, a second column; with weight 0 it would still spread infinities.
template <int kKernel, bool kDown, bool kRight, class T, class Y>
GLNET_AVX512 [[gnu::always_inline]] inline void unfold_channels(Y* y, int64_t tap, const Map<T>& map,
                                                                const Pixel& pixel, __mmask16 lanes) {
  const int64_t top = pixel.down.index - kKernel / 2, left = pixel.right.index - kKernel / 2;
  const __m512 upper = _mm512_set1_ps(pixel.down.near), lower = _mm512_set1_ps(pixel.down.far);
  const __m512 near = _mm512_set1_ps(pixel.right.near), far = _mm512_set1_ps(pixel.right.far);
  __mmask16 inside[kKernel + 1];
  for (int u = 0; u <= kKernel; ++u) inside[u] = left + u >= 0 && left + u < map.width ? lanes : 0;
  __m512 above[kKernel];
  for (int r = 0; r < kKernel + kDown; ++r) {
    __m512 row[kKernel];
    if (top + r < 0 || top + r >= map.height) {
      for (int u = 0; u < kKernel; ++u) row[u] = _mm512_setzero_ps();
    } else {
      const T* x = map.x + (top + r - map.first) * map.stride + left * map.pixel;
      // Such short runs of memory the processor does not see coming.
      for (int u = 0; u < kKernel + kRight; ++u) {
        _mm_prefetch(reinterpret_cast<const char*>(x + (pixel.ahead + u) * map.pixel), _MM_HINT_T0);
      }
      __m512 last = load16(x, inside[0]);
      for (int u = 0; u < kKernel; ++u) {
        const __m512 next = load16(x + (u + 1) * map.pixel, inside[u + 1]);
        row[u] = kRight ? _mm512_fmadd_ps(far, next, _mm512_mul_ps(near, last)) : last;
        last = next;
      }
    }
    Y* to = y + (r - kDown) * kKernel * tap;
    if (r >= kDown) {
      for (int u = 0; u < kKernel; ++u) {
        const __m512 mixed = kDown ? _mm512_fmadd_ps(lower, row[u], _mm512_mul_ps(upper, above[u])) : row[u];
        store16(to + u * tap, mixed, lanes);
      }
    }
    for (int u = 0; u < kKernel; ++u) above[u] = row[u];
  }
}

template <int kKernel, bool kDown, bool kRight, class T, class Y>
GLNET_AVX512 void unfold_pixel(Y* y, int64_t channels, int64_t tap, Map<T> map, const Pixel& pixel) {
  for (int64_t c = 0; c < channels; c += 16, map.x += 16, y += 16) {
    unfold_channels<kKernel, kDown, kRight>(y, tap, map, pixel, first_lanes(channels - c));
  }
}

/// Some channels of a row of y, whose taps are `tap` elements apart.
template <int kKernel, class T, class Y>
void unfold_row(Y* y, int64_t channels, int64_t tap, const Map<T>& map, const Blend& down,
                const AxisSampling& columns) {
  const int64_t width = columns.outputs();
  Pixel pixel{down, blend_at(columns, 0), 0};
  for (int64_t column = 0; column < width; ++column, y += kKernel * kKernel * tap) {
    const Blend next = blend_at(columns, std::min<int64_t>(column + 1, width - 1));
    pixel.ahead = next.index - pixel.right.index;
    if (pixel.down.far != 0 && pixel.right.far != 0) {
      unfold_pixel<kKernel, true, true>(y, channels, tap, map, pixel);
    } else if (pixel.down.far != 0) {
      unfold_pixel<kKernel, true, false>(y, channels, tap, map, pixel);
    } else if (pixel.right.far != 0) {
      unfold_pixel<kKernel, false, true>(y, channels, tap, map, pixel);
    } else {
      unfold_pixel<kKernel, false, false>(y, channels, tap, map, pixel);
    }
    pixel.right = next;
  }
}

/// to[0 ... channels) = the mix of what lies `next` elements apart from x on.
template <class T>
GLNET_AVX512 void mix(float* to, const T* x, int64_t next, const AxisSampling& sampling, int64_t at,
                      int64_t channels) {
  for (int64_t c = 0; c < channels; c += 16) {
    const __mmask16 lanes = first_lanes(channels - c);
    __m512 sum = _mm512_setzero_ps();
    for (const auto* e = sampling.begin(at); e != sampling.end(at); ++e) {
      sum = _mm512_fmadd_ps(_mm512_set1_ps(e->weight), load16(x + e->index * next + c, lanes), sum);
    }
    store16(to + c, sum, lanes);
  }
}

/// Shared by all rows of y.
struct Unfolding {
  const UnfoldResize& op;
  AxisSampling whole_rows, whole_columns;  ///< of the map on its target grid
  AxisSampling rows, columns;              ///< of y

  explicit Unfolding(const UnfoldResize& of)
      : op(of),
        whole_rows(sampling_of(of.source, 0)),
        whole_columns(sampling_of(of.source, 1)),
        rows(AxisSampling::bilinear(of.source.height(), of.height)),
        columns(AxisSampling::bilinear(of.source.width(), of.width)) {}

  /// Where a patch's map begins.
  template <class T>
  const T* map(int64_t patch) const {
    const GridSource& s = op.source;
    const int64_t stride = s.x.dim(2) * s.channels();
    const auto n = static_cast<size_t>(patch);
    return s.x.as<const T>() +
           (s.cropped() ? s.tops[n] * stride + s.lefts[n] * s.channels() : patch * s.x.dim(1) * stride);
  }
};

template <int kKernel, class T>
void unfold_plain(const Unfolding& u, int64_t patch, int64_t row, T* y) {
  const GridSource& s = u.op.source;
  const int64_t channels = s.channels();
  const Map<T> map{u.map<T>(patch), 0, s.height(), s.width(), channels, s.x.dim(2) * channels};
  unfold_row<kKernel>(y, channels, channels, map, blend_at(u.rows, row), u.columns);
}

/// Resizes the rows that are read, some channels at a time, along their columns last: these are more.
template <int kKernel, class T>
void unfold_resized(const Unfolding& u, int64_t patch, int64_t row, T* y, float* scratch) {
  const GridSource& s = u.op.source;
  const int64_t channels = s.channels(), stride = s.x.dim(2) * channels, width = s.width();
  const Blend down = blend_at(u.rows, row);
  const int64_t first = std::max<int64_t>(down.index - kKernel / 2, 0);
  const int64_t end = std::min<int64_t>(down.index + kKernel / 2 + (down.far != 0) + 1, s.height());
  float* rows = scratch + s.base_width() * kChannelsAtOnce;
  for (int64_t c = 0; c < channels; c += kChannelsAtOnce) {
    const int64_t count = std::min(kChannelsAtOnce, channels - c);
    float* to = rows;
    for (int64_t i = first; i < end; ++i) {
      const T* x = u.map<T>(patch) + c;
      for (int64_t column = 0; column < s.base_width(); ++column, x += channels)
        mix(scratch + column * kChannelsAtOnce, x, stride, u.whole_rows, i, count);
      for (int64_t column = 0; column < width; ++column, to += kChannelsAtOnce)
        mix(to, scratch, kChannelsAtOnce, u.whole_columns, column, count);
    }
    const Map<float> map{rows, first, s.height(), width, kChannelsAtOnce, width * kChannelsAtOnce};
    unfold_row<kKernel>(y + c, count, channels, map, down, u.columns);
  }
}

int64_t thread_floats(const UnfoldResize& op) {
  if (op.source.sizes.empty()) return 0;
  return (op.source.base_width() + (op.kernel + 1) * op.source.width()) * kChannelsAtOnce;
}

template <int kKernel, class T>
void unfold(const UnfoldResize& op, const Context& context) {
  const Unfolding u(op);
  parallel_for(context.threads, op.source.batch() * op.height, [&](int64_t i) {
    T* y = op.y.as<T>() + i * op.width * op.y.dim(3);
    if (op.source.sizes.empty()) return unfold_plain<kKernel>(u, i / op.height, i % op.height, y);
    float* scratch = static_cast<float*>(context.workspace) + omp_get_thread_num() * thread_floats(op);
    unfold_resized<kKernel>(u, i / op.height, i % op.height, y, scratch);
  });
}

}  // namespace

bool unfolds(const UnfoldResize& op) {
  return (op.kernel == 3 || op.kernel == 5) &&
         (op.source.x.dtype == DType::bfloat16 ? has_bfloat16()
                                               : op.source.x.dtype == DType::float32 && has_avx512());
}

size_t unfold_workspace_bytes(const UnfoldResize& op, int threads) {
  return static_cast<size_t>(4 * threads * thread_floats(op));
}

void unfold(const UnfoldResize& op, const Context& context) {
  with_type(op.kName, op.source.x.dtype, [&](auto t) {
    using T = decltype(t);
    op.kernel == 3 ? unfold<3, T>(op, context) : unfold<5, T>(op, context);
  });
}

}  // namespace glnet::cpu
