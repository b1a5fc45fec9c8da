// Included once for each kind of processor, in a namespace that has: VECTORS, the attribute of functions; V,
// a vector of kLanes floats; kPanelVectors, how many of them a register tile has across; load, store,
// broadcast and multiply_add of floats; with GLNET_HAS_BFLOAT16, for its instructions, load and store of
// bfloat16, Multiply and put_rows, too. See code.cc.

/// What differs between the types: a vector of b, an element of a in all lanes, and their products. A step
/// takes kStep elements of a, as a whole or, in kParts, one by one.
template <class T>
struct Multiply;

template <>
struct Multiply<float> {
  static constexpr int kStep = 1, kParts = 1;
  VECTORS static V load_b(const float* b, int) { return load(b); }
  VECTORS static V load_a(const float* a, int) { return broadcast(*a); }
  VECTORS static V add(V sum, V a, V b) { return multiply_add(sum, a, b); }
};

#ifndef GLNET_HAS_BFLOAT16

using Bits = uint32_t __attribute__((vector_size(4 * kLanes)));
using HalfBits = uint16_t __attribute__((vector_size(2 * kLanes)));

VECTORS inline V load(const bfloat16* from) {
  HalfBits bits;
  std::memcpy(&bits, from, sizeof bits);
  return (V)(__builtin_convertvector(bits, Bits) << 16);
}
VECTORS inline V load(const bfloat16* from, int64_t count) {
  if (count >= kLanes) return load(from);
  bfloat16 all[kLanes] = {};
  if (count > 0) std::memcpy(all, from, 2 * static_cast<size_t>(count));
  return load(all);
}
/// Rounded to nearest even; NaN stays.
VECTORS inline void store(bfloat16* to, V v, int64_t count = kLanes) {
  const Bits u = (Bits)v, rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  const HalfBits bits = __builtin_convertvector(v == v ? rounded : u >> 16 | 0x40, HalfBits);
  if (count > 0)
    std::memcpy(static_cast<void*>(to), &bits, 2 * static_cast<size_t>(count < kLanes ? count : kLanes));
}

/// Of a pair of bfloat16, one at a time: in a word, the first is the lower half.
template <>
struct Multiply<bfloat16> {
  static constexpr int kStep = 2, kParts = 2;
  VECTORS static V half(Bits pair, int part) { return (V)(part == 0 ? pair << 16 : pair & 0xffff0000u); }
  VECTORS static V load_b(const bfloat16* b, int part) {
    Bits pair;
    std::memcpy(&pair, b, sizeof pair);
    return half(pair, part);
  }
  VECTORS static V load_a(const bfloat16* a, int part) {
    float pair;
    std::memcpy(&pair, a, sizeof pair);
    return half((Bits)broadcast(pair), part);
  }
  VECTORS static V add(V sum, V a, V b) { return multiply_add(sum, a, b); }
};

VECTORS inline void put_rows(const float* products, int64_t next, int64_t panel, bfloat16* to) {
  for (int64_t k = 0; k < panel; ++k) {
    for (int64_t row = 0; row < 2; ++row) *to++ = bfloat16(products[row * next + k]);
  }
}

#endif

/// sum += the products of elements `begin` to before `end` of a and what of b belongs to them, whose rows are
/// `next` elements apart.
template <class T, int kRows, int kVectors>
VECTORS [[gnu::always_inline]] inline const T* add_products(const T* const* a, int64_t begin, int64_t end,
                                                            const T* b, int64_t next,
                                                            V (&sum)[kRows][kVectors]) {
  using M = Multiply<T>;
  for (int64_t i = begin; i < end; i += M::kStep, b += next) {
#pragma GCC unroll 2
    for (int part = 0; part < M::kParts; ++part) {
      decltype(M::load_b(b, 0)) from[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) from[v] = M::load_b(b + kLanes * M::kStep * v, part);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const auto factor = M::load_a(a[r] + i, part);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sum[r][v] = M::add(sum[r][v], factor, from[v]);
      }
    }
  }
  return b;
}

/// Some columns of a tile, from `first` on: as many as fit the registers.
template <class T, class Y, int kRows, int kVectors>
VECTORS [[gnu::always_inline]] inline void multiply_columns(const PanelTile& tile, int64_t first,
                                                            int64_t panel) {
  constexpr int64_t kStep = Multiply<T>::kStep;
  V sum[kRows][kVectors];  // filled in a loop: an initialiser would be a fill of memory
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[r][v] = broadcast(0);
  }
  for (int64_t t = 0; t < tile.taps; ++t) {
    const T* a[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) a[r] = static_cast<const T*>(tile.a[t * kTileRows + r]);
    const T* b = static_cast<const T*>(tile.b) + t * tile.next_b + first * kStep;
    if (!tile.next || first > 0) {
      add_products(a, 0, tile.inner, b, panel * kStep, sum);
      continue;
    }
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(T));
    for (int64_t line = 0; line < tile.inner; line += kLine) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) __builtin_prefetch(static_cast<const T*>(tile.next[r]) + line);
      b = add_products(a, line, line + kLine < tile.inner ? line + kLine : tile.inner, b, panel * kStep, sum);
    }
  }
  if (!tile.begins) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v)
        sum[r][v] += load(tile.partial + r * kPanelColumns + first + kLanes * v);
    }
  }
  if (!tile.ends) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v)
        store(tile.partial + r * kPanelColumns + first + kLanes * v, sum[r][v]);
    }
    return;
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    const int64_t at = first + kLanes * v, count = tile.columns - at;
    const V bias = tile.bias ? load(tile.bias + at, count) : broadcast(0);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      V y = sum[r][v] + bias;
      if (tile.addend) y += load(static_cast<const Y*>(tile.addend[r]) + at, count);
      if (tile.relu) y = y > 0 ? y : V{};
      store(static_cast<Y*>(tile.c[r]) + at, y, count);
    }
  }
}

/// @tparam kSixteens of the panel's columns
template <class T, class Y, int kRows, int kSixteens>
VECTORS void multiply(const PanelTile& tile) {
  if (tile.fetches) {
    // Rows lie far apart, so that the processor does not foresee them; by the end of the sums they are here.
    constexpr int64_t kLines = (16 * kSixteens * static_cast<int64_t>(sizeof(Y)) + 63) / 64;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      for (int64_t i = 0; i < kLines; ++i) {
        if (tile.addend) __builtin_prefetch(static_cast<const char*>(tile.addend[r]) + 64 * i);
        __builtin_prefetch(static_cast<const char*>(tile.c[r]) + 64 * i, 1);
      }
    }
  }
  constexpr int64_t kColumns = 16 * kSixteens;
  constexpr int kVectors = kColumns / kLanes < kPanelVectors ? kColumns / kLanes : kPanelVectors;
  for (int64_t first = 0; first < kColumns; first += kVectors * kLanes)
    multiply_columns<T, Y, kRows, kVectors>(tile, first, kColumns);
}

template <class T, class Y, int kSixteens>
PanelKernel panel_of(int64_t rows) {
  constexpr PanelKernel kernels[] = {multiply<T, Y, 1, kSixteens>, multiply<T, Y, 2, kSixteens>,
                                     multiply<T, Y, 3, kSixteens>, multiply<T, Y, 4, kSixteens>,
                                     multiply<T, Y, 5, kSixteens>, multiply<T, Y, 6, kSixteens>};
  return kernels[rows - 1];
}

template <class T, class Y>
PanelKernel panel_of(int64_t rows, int64_t columns) {
  const int64_t sixteens = (columns + 15) / 16;
  return sixteens == 1   ? panel_of<T, Y, 1>(rows)
         : sixteens == 2 ? panel_of<T, Y, 2>(rows)
         : sixteens == 3 ? panel_of<T, Y, 3>(rows)
                         : panel_of<T, Y, 4>(rows);
}

inline PanelKernel panel(DType input, DType output, int64_t rows, int64_t columns) {
  if (input == DType::float32) return panel_of<float, float>(rows, columns);
  return output == DType::float32 ? panel_of<bfloat16, float>(rows, columns)
                                  : panel_of<bfloat16, bfloat16>(rows, columns);
}

template <class F, class T>
VECTORS void transform_input(const T* const* from, int64_t channels, T* to, int64_t next) {
  constexpr int kN = F::kSide + 2;
  for (int64_t c = 0; c < channels; c += kLanes) {
    V x[kN * kN], y[kN * kN];
#pragma GCC unroll 8
    for (int column = 0; column < kN; ++column) {
#pragma GCC unroll 8
      for (int row = 0; row < kN; ++row) x[row * kN + column] = load(from[row * kN + column] + c);
      F::input(x + column, kN, y + column, kN);
    }
#pragma GCC unroll 8
    for (int row = 0; row < kN; ++row) {
      F::input(y + row * kN, 1, x + row * kN, 1);
#pragma GCC unroll 8
      for (int column = 0; column < kN; ++column)
        store(to + (row * kN + column) * next + c, x[row * kN + column]);
    }
  }
}

template <class F>
VECTORS void transform_kernel(const double* from, float* to) {
  constexpr int kN = F::kSide + 2;
  constexpr int64_t kHalf = kLanes / 2;
  using Wide = double __attribute__((vector_size(8 * kHalf)));
  using Narrow = float __attribute__((vector_size(4 * kHalf)));
  for (int64_t k = 0; k < kPanelColumns; k += kHalf) {
    Wide x[9], y[kN * 3], z[kN * kN];
#pragma GCC unroll 8
    for (int i = 0; i < 9; ++i) std::memcpy(&x[i], from + i * kPanelColumns + k, sizeof x[i]);
#pragma GCC unroll 8
    for (int column = 0; column < 3; ++column) F::kernel(x + column, 3, y + column, 3);
#pragma GCC unroll 8
    for (int row = 0; row < kN; ++row) F::kernel(y + row * 3, 1, z + row * kN, 1);
#pragma GCC unroll 8
    for (int i = 0; i < kN * kN; ++i) {
      const Narrow rounded = __builtin_convertvector(z[i], Narrow);
      std::memcpy(to + i * kPanelColumns + k, &rounded, sizeof rounded);
    }
  }
}

VECTORS inline void put_rows(const float* products, int64_t next, int64_t panel, float* to) {
  for (int64_t row = 0; row < 2; ++row, products += next) {
    for (int64_t k = 0; k < panel; k += kLanes, to += kLanes) store(to, load(products + k));
  }
}

template <class F, class Y>
VECTORS void transform_output(const float* from, int64_t next, const Finish<Y>& finish) {
  constexpr int kSide = F::kSide, kN = kSide + 2;
  for (int64_t c = 0; c < finish.columns; c += kLanes) {
    const int64_t count = finish.columns - c;
    const V bias = finish.bias ? load(finish.bias + c, count) : V{};
    V x[kN * kN], y[kSide * kN], z[kSide * kSide];
#pragma GCC unroll 8
    for (int column = 0; column < kN; ++column) {
#pragma GCC unroll 8
      for (int row = 0; row < kN; ++row) x[row * kN + column] = load(from + (row * kN + column) * next + c);
      F::output(x + column, kN, y + column, kN);
    }
#pragma GCC unroll 8
    for (int row = 0; row < kSide; ++row) F::output(y + row * kN, 1, z + row * kSide, 1);
#pragma GCC unroll 8
    for (int row = 0; row < kSide; ++row) {
#pragma GCC unroll 8
      for (int column = 0; column < kSide; ++column) {
        if (row >= finish.height || column >= finish.width) continue;
        const int64_t at = row * finish.next_row + column * finish.next_pixel + c;
        V v = z[row * kSide + column] + bias;
        if (finish.addend) v += load(finish.addend + at, count);
        if (finish.relu) v = v > 0 ? v : V{};
        store(finish.y + at, v, count);
      }
    }
  }
}

VECTORS inline void sum_parts(const float* const* rows, int64_t parts, int64_t tiles, int64_t next,
                              int64_t columns, int64_t outputs, int64_t width, float* y) {
  constexpr int kSide = F3::kSide, kN = kSide + 2, kProducts = kN * kN;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    for (int64_t k = 0; k < outputs; k += kLanes) {
      const int64_t count = outputs - k;
      V x[kProducts], half[kSide * kN], z[kSide * kSide];
      for (int64_t p = 0; p < kProducts; ++p) {
        V sum = broadcast(0);
        for (int64_t a = 0; a < parts; ++a) {
          const float* from = rows[a] + p * next + tile * columns + a * parts * outputs + k;
          for (int64_t b = 0; b < parts; ++b, from += columns + outputs) sum += load(from, count);
        }
        x[p] = sum;
      }
#pragma GCC unroll 8
      for (int column = 0; column < kN; ++column) F3::output(x + column, kN, half + column, kN);
#pragma GCC unroll 8
      for (int row = 0; row < kSide; ++row) F3::output(half + row * kN, 1, z + row * kSide, 1);
#pragma GCC unroll 8
      for (int64_t row = 0; row < kSide; ++row) {
        for (int64_t column = 0; column < kSide && tile * kSide + column < width; ++column)
          store(y + (row * width + tile * kSide + column) * outputs + k, z[row * kSide + column], count);
      }
    }
  }
}

template <class T>
constexpr TypeCode<T> type_code() {
  return {{transform_input<F2, T>, transform_input<F3, T>, transform_input<F4, T>},
          {transform_output<F2, T>, transform_output<F3, T>, transform_output<F4, T>},
          put_rows};
}

inline const Code& code() {
  static constexpr Code all{panel,
                            {transform_kernel<F2>, transform_kernel<F3>, transform_kernel<F4>},
                            sum_parts,
                            type_code<float>(),
                            type_code<bfloat16>()};
  return all;
}
