// What of the convolutions is written in vectors, compiled for several kinds of processors (target_inl.h).
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/dtype.h"
#include "cpu/convolutions/panel.h"

namespace glnet::cpu {

/// What becomes of the products of a Winograd tile with a panel.
template <class Y>
struct Finish {
  int64_t columns, height, width;  ///< outputs of the panel; pixels of the tile
  const float* bias;               ///< or nullptr
  const Y* addend;                 ///< or nullptr; as y
  bool relu;
  Y* y;
  int64_t next_row, next_pixel;  ///< elements
};

/// What depends on a type of the maps: float32 or bfloat16.
template <class T>
struct TypeCode {
  /// Of a form: transforms a tile of x. `from` says where its pixels lie; the products' elements are `next`
  /// apart in `to`. By the side of the tile of y, less 2.
  void (*input[3])(const T* const* from, int64_t channels, T* to, int64_t next);
  /// Of a form: transforms the products of a tile, which are `next` apart, and finishes y.
  void (*output[3])(const float* from, int64_t next, const Finish<T>& finish);
  /// Rows of a panel's b from the products of two channels, [2, next].
  void (*put_rows)(const float* products, int64_t next, int64_t panel, T* to);
};

struct Code {
  /// The fastest here for maps of this type.
  static const Code& of(DType type);

  /// The kernel for a tile's rows and columns. a and b have the type `input`, c and the addend `output`:
  /// float32, or of bfloat16 both.
  PanelKernel (*panel)(DType input, DType output, int64_t rows, int64_t columns);
  /// Of a form: transforms the kernels of a panel and one input channel, [9, kPanelColumns], to [products,
  /// kPanelColumns]; in double, since these errors would add to those of the products.
  void (*kernel[3])(const double* from, float* to);
  /// A row of tiles of y of a nested convolution. `rows` are the products of the rows of tiles of x that it
  /// reads, [products, tiles, columns]; the parts of the kernel lie one after the other in a tile's columns.
  void (*sum_parts)(const float* const* rows, int64_t parts, int64_t tiles, int64_t next, int64_t columns,
                    int64_t outputs, int64_t width, float* y);
  TypeCode<float> wide;
  TypeCode<bfloat16> narrow;

  template <class T>
  const TypeCode<T>& with() const {
    if constexpr (std::is_same_v<T, float>) {
      return wide;
    } else {
      return narrow;
    }
  }
};

}  // namespace glnet::cpu
