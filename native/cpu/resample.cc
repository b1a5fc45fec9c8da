#include "cpu/resample.h"

#include "cpu/machine.h"
#include "cpu/parallel.h"
#ifdef GLNET_X86
#include "cpu/avx512/mix.h"
#endif

namespace glnet::cpu {
namespace {

// Always inlined, so that they are compiled for the instruction set of their caller.
template <bool kAdd, class Y>
[[gnu::always_inline]] inline void put(Y& y, float value) {
  if constexpr (kAdd) {
    y += value;
  } else {
    y = Y(value);
  }
}

/// How pixels are mixed.
template <bool kAdd>
struct Mixer {
  template <class Y, class T>
  [[gnu::always_inline]] static void mix1(Y* __restrict y, const T* a, float p, int64_t n) {
    for (int64_t i = 0; i < n; ++i) put<kAdd>(y[i], p * static_cast<float>(a[i]));
  }
  template <class Y, class T>
  [[gnu::always_inline]] static void mix2(Y* __restrict y, const T* a, const T* b, float p, float q,
                                          int64_t n) {
    for (int64_t i = 0; i < n; ++i)
      put<kAdd>(y[i], p * static_cast<float>(a[i]) + q * static_cast<float>(b[i]));
  }
  template <class Y, class T>
  [[gnu::always_inline]] static void mix4(Y* __restrict y, const T* a, const T* b, const T* c, const T* d,
                                          float p, float q, float r, float s, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      put<kAdd>(y[i], (p * static_cast<float>(a[i]) + q * static_cast<float>(b[i])) +
                          (r * static_cast<float>(c[i]) + s * static_cast<float>(d[i])));
    }
  }
};

#ifdef GLNET_X86
struct Avx512Mixer {
  static constexpr auto mix1 = avx512::mix1;
  static constexpr auto mix2 = avx512::mix2;
  static constexpr auto mix4 = avx512::mix4;
};
#endif

template <bool kAdd, class Mix = Mixer<kAdd>, class Y, class T>
GLNET_MULTIVERSION void row(Y* y, RowSource<T> source, const AxisSampling& columns, int64_t channels,
                            int64_t pixel) {
  using Entry = AxisSampling::Entry;
  const auto height = source.rows_end - source.rows;
  if (height == 0) {
    for (int64_t column = 0; !kAdd && column < columns.outputs(); ++column, y += pixel) {
      std::fill_n(y, channels, Y{});
    }
    return;
  }
  const T* upper = source.x + source.rows[0].index * source.stride;
  const T* lower = source.x + source.rows_end[-1].index * source.stride;
  const float up = source.rows[0].weight, down = source.rows_end[-1].weight;
  for (int64_t column = 0; column < columns.outputs(); ++column, y += pixel) {
    const Entry *begin = columns.begin(column), *end = columns.end(column);
    const auto width = end - begin;
    if (width == 0) {
      if (!kAdd) std::fill_n(y, channels, Y{});
      continue;
    }
    const int64_t left = begin->index * channels, right = end[-1].index * channels;
    if (height == 1 && width == 1) {
      Mix::mix1(y, upper + left, up * begin->weight, channels);
    } else if (height == 1 && width == 2) {
      Mix::mix2(y, upper + left, upper + right, up * begin->weight, up * end[-1].weight, channels);
    } else if (height == 2 && width == 1) {
      Mix::mix2(y, upper + left, lower + left, up * begin->weight, down * begin->weight, channels);
    } else if (height == 2 && width == 2) {
      Mix::mix4(y, upper + left, upper + right, lower + left, lower + right, up * begin->weight,
                up * end[-1].weight, down * begin->weight, down * end[-1].weight, channels);
    } else {
      constexpr int64_t kBlock = 64;
      for (int64_t c = 0; c < channels; c += kBlock) {
        const int64_t n = std::min(kBlock, channels - c);
        float sums[kBlock] = {};
        for (const Entry* v = source.rows; v != source.rows_end; ++v) {
          for (const Entry* u = begin; u != end; ++u) {
            const T* x = source.x + v->index * source.stride + u->index * channels + c;
            const float weight = v->weight * u->weight;
            for (int64_t i = 0; i < n; ++i) sums[i] += weight * static_cast<float>(x[i]);
          }
        }
        for (int64_t i = 0; i < n; ++i) put<kAdd>(y[c + i], sums[i]);
      }
    }
  }
}

}  // namespace

void resample_row(float* y, const RowSource<float>& source, const AxisSampling& columns, int64_t channels,
                  int64_t pixel) {
  row<false>(y, source, columns, channels, pixel ? pixel : channels);
}
void resample_row(bfloat16* y, const RowSource<bfloat16>& source, const AxisSampling& columns,
                  int64_t channels, int64_t pixel) {
  if (!pixel) pixel = channels;
#ifdef GLNET_X86
  if (has_bfloat16()) return row<false, Avx512Mixer>(y, source, columns, channels, pixel);
#endif
  row<false>(y, source, columns, channels, pixel);
}
void add_resampled_row(float* y, const RowSource<float>& source, const AxisSampling& columns,
                       int64_t channels) {
  row<true>(y, source, columns, channels, channels);
}
void add_resampled_row(float* y, const RowSource<bfloat16>& source, const AxisSampling& columns,
                       int64_t channels) {
  row<true>(y, source, columns, channels, channels);
}

}  // namespace glnet::cpu
