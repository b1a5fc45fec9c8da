// The plain version of every op: one loop a sum, in double, no thought for speed. Reads and writes any dtype.
#pragma once

#include "core/backend.h"

namespace glnet::reference {

#define GLNET_DECLARE(Type, name) void name(const Type& op, const Context& context);
GLNET_OPS(GLNET_DECLARE)
#undef GLNET_DECLARE

inline double load(const View& v, int64_t i) {
  switch (v.dtype) {
    case DType::float32:
      return v.as<float>()[i];
    case DType::bfloat16:
      return static_cast<float>(v.as<bfloat16>()[i]);
    case DType::float16:
      return static_cast<float>(v.as<float16>()[i]);
    case DType::float64:
      return v.as<double>()[i];
    case DType::int32:
      return v.as<int32_t>()[i];
    case DType::uint8:
      return v.as<uint8_t>()[i];
  }
  return 0;
}

/// Rounds to nearest even where the dtype is narrower; integers must be in range.
inline void store(const View& v, int64_t i, double value) {
  switch (v.dtype) {
    case DType::float32:
      v.as<float>()[i] = static_cast<float>(value);
      break;
    case DType::bfloat16:
      v.as<bfloat16>()[i] = bfloat16(static_cast<float>(value));
      break;
    case DType::float64:
      v.as<double>()[i] = value;
      break;
    case DType::int32:
      v.as<int32_t>()[i] = static_cast<int32_t>(value);
      break;
    case DType::uint8:
      v.as<uint8_t>()[i] = static_cast<uint8_t>(value);
      break;
    case DType::float16:
      fail(ErrorCode::native, "float16 is read only");
  }
}

/// Index of element (n, y, x, c) of a four-dimensional view.
inline int64_t at(const View& v, int64_t n, int64_t y, int64_t x, int64_t c) {
  return ((n * v.shape[1] + y) * v.shape[2] + x) * v.shape[3] + c;
}

}  // namespace glnet::reference
