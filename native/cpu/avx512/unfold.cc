#include "cpu/avx512/unfold.h"

#include "cpu/avx512/vector.h"
#include "cpu/machine.h"
#include "cpu/parallel.h"
#include "cpu/sampling.h"

namespace glnet::cpu {
namespace {

/// What a position of y reads along one axis of a map on its own grid: the tap in the middle of the kernel
/// pixel `index`, and the next one unless `far` is 0; the other taps their neighbours, with the same weights.
struct Blend {
  int64_t index;
  float near, far;
};

Blend blend_at(const AxisSampling& sampling, int64_t i) {
  const AxisSampling::Entry *first = sampling.begin(i), *last = sampling.end(i) - 1;
  return {first->index, first->weight, last == first ? 0 : last->weight};
}

/// A map, or a crop of one, at x.
template <class T>
struct Map {
  const T* x;
  int64_t height, width, channels, stride;
};

struct Pixel {
  Blend down, right;
  int64_t ahead;  ///< columns of the map to what the next pixel reads
};

/// Up to 16 channels of all taps of a pixel of y. What they read overlaps: each row of the map is blended
/// along its columns once, then mixed with the row above. `kDown`, `kRight`: whether there is a second row, a
/// second column; with weight 0 it would still spread infinities.
template <int kKernel, bool kDown, bool kRight, class T>
GLNET_AVX512 [[gnu::always_inline]] inline void unfold_channels(T* y, const Map<T>& map, const Pixel& pixel,
                                                                __mmask16 lanes) {
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
      const T* x = map.x + (top + r) * map.stride + left * map.channels;
      // Such short runs of memory the processor does not see coming.
      for (int u = 0; u < kKernel + kRight; ++u) {
        _mm_prefetch(reinterpret_cast<const char*>(x + (pixel.ahead + u) * map.channels), _MM_HINT_T0);
      }
      __m512 last = load16(x, inside[0]);
      for (int u = 0; u < kKernel; ++u) {
        const __m512 next = load16(x + (u + 1) * map.channels, inside[u + 1]);
        row[u] = kRight ? _mm512_fmadd_ps(far, next, _mm512_mul_ps(near, last)) : last;
        last = next;
      }
    }
    T* to = y + (r - kDown) * kKernel * map.channels;
    if (r >= kDown) {
      for (int u = 0; u < kKernel; ++u) {
        const __m512 mixed = kDown ? _mm512_fmadd_ps(lower, row[u], _mm512_mul_ps(upper, above[u])) : row[u];
        store16(to + u * map.channels, mixed, lanes);
      }
    }
    for (int u = 0; u < kKernel; ++u) above[u] = row[u];
  }
}

template <int kKernel, bool kDown, bool kRight, class T>
GLNET_AVX512 void unfold_pixel(T* y, Map<T> map, const Pixel& pixel) {
  int64_t c = 0;
  for (; c + 16 <= map.channels; c += 16, map.x += 16, y += 16) {
    unfold_channels<kKernel, kDown, kRight>(y, map, pixel, 0xffff);
  }
  if (c < map.channels) {
    unfold_channels<kKernel, kDown, kRight>(y, map, pixel, first_lanes(map.channels - c));
  }
}

template <int kKernel, class T>
void unfold(const UnfoldResize& op, int threads) {
  const GridSource& s = op.source;
  const int64_t height = s.height(), width = s.width(), channels = s.channels(),
                stride = s.x.dim(2) * channels, taps = op.y.dim(3);
  const AxisSampling rows = AxisSampling::bilinear(height, op.height),
                     columns = AxisSampling::bilinear(width, op.width);
  parallel_for(threads, s.batch() * op.height, [&](int64_t i) {
    const int64_t patch = i / op.height;
    const auto n = static_cast<size_t>(patch);
    const int64_t first =
        s.cropped() ? s.tops[n] * stride + s.lefts[n] * channels : patch * s.x.dim(1) * stride;
    const Map<T> map{s.x.as<const T>() + first, height, width, channels, stride};
    Pixel pixel{blend_at(rows, i % op.height), blend_at(columns, 0), 0};
    T* y = op.y.as<T>() + i * op.width * taps;
    for (int64_t column = 0; column < op.width; ++column, y += taps) {
      const Blend next = blend_at(columns, std::min<int64_t>(column + 1, op.width - 1));
      pixel.ahead = next.index - pixel.right.index;
      if (pixel.down.far != 0 && pixel.right.far != 0) {
        unfold_pixel<kKernel, true, true>(y, map, pixel);
      } else if (pixel.down.far != 0) {
        unfold_pixel<kKernel, true, false>(y, map, pixel);
      } else if (pixel.right.far != 0) {
        unfold_pixel<kKernel, false, true>(y, map, pixel);
      } else {
        unfold_pixel<kKernel, false, false>(y, map, pixel);
      }
      pixel.right = next;
    }
  });
}

}  // namespace

bool unfold_plain_map(const UnfoldResize& op, int threads) {
  const bool suits = op.source.sizes.empty() && (op.kernel == 3 || op.kernel == 5);
  if (!suits || !has_own_kernels(op.source.x.dtype)) return false;
  with_type(op.kName, op.source.x.dtype, [&](auto t) {
    using T = decltype(t);
    op.kernel == 3 ? unfold<3, T>(op, threads) : unfold<5, T>(op, threads);
  });
  return true;
}

}  // namespace glnet::cpu
