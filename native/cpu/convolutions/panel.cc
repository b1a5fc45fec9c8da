#include "cpu/convolutions/panel.h"

#include <cstddef>

#include "cpu/convolutions/code.h"

namespace glnet::cpu {
namespace {

template <class T, int64_t kStep>
void pack(const T* dense, int64_t columns, int64_t inner, int64_t next_column, int64_t next_inner,
          int64_t first, T* packed) {
  const int64_t padded = panel_columns(columns, first), count = columns - first;
  for (int64_t i = 0; i < inner; i += kStep) {
    for (int64_t c = 0; c < padded; ++c) {
      for (int64_t k = 0; k < kStep; ++k)
        *packed++ = c < count ? dense[(first + c) * next_column + (i + k) * next_inner] : T{};
    }
  }
}

}  // namespace

void multiply_panel(DType input, int64_t rows, int64_t columns, int64_t inner, const void* a, int64_t next_a,
                    const void* b, float* c, int64_t next_c) {
  const int64_t tiles = divide_up(rows, kTileRows), element = static_cast<int64_t>(size_of(input));
  const void* from[kTileRows];
  void* to[kTileRows];
  const Code& code = Code::of(input);
  PanelTile tile;
  tile.columns = columns;
  tile.inner = inner;
  tile.a = from;
  tile.b = b;
  tile.c = to;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t first = rows * i / tiles;
    tile.rows = rows * (i + 1) / tiles - first;
    for (int64_t r = 0; r < tile.rows; ++r) {
      from[r] = static_cast<const std::byte*>(a) + (first + r) * next_a * element;
      to[r] = c + (first + r) * next_c;
    }
    code.panel(input, DType::float32, tile.rows, columns)(tile);
  }
}

void pack_panel(DType type, const void* dense, int64_t columns, int64_t inner, int64_t next_column,
                int64_t next_inner, int64_t first, void* packed) {
  if (type == DType::float32) {
    pack<float, 1>(static_cast<const float*>(dense), columns, inner, next_column, next_inner, first,
                   static_cast<float*>(packed));
  } else {
    pack<bfloat16, 2>(static_cast<const bfloat16*>(dense), columns, inner, next_column, next_inner, first,
                      static_cast<bfloat16*>(packed));
  }
}

}  // namespace glnet::cpu
