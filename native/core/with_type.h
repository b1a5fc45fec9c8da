// From a dtype to the C++ type that kernels are templates of.
#pragma once

#include "core/dtype.h"
#include "core/error.h"

namespace glnet {

/// Calls `body(T{})` with the C++ type of a floating dtype that devices compute with. `device` and `op` are
/// for the message of ErrorCode::invalid_argument.
template <class Body>
void with_type(const char* device, const char* op, DType dtype, Body&& body) {
  switch (dtype) {
    case DType::float32:
      return body(float{});
    case DType::bfloat16:
      return body(bfloat16{});
    default:
      fail(ErrorCode::invalid_argument, op, ": ", device, " does not compute in ", name_of(dtype));
  }
}

}  // namespace glnet
