// Sizes of a tensor, outermost first. Activations are NHWC, convolution weights OIHW, all contiguous.
#pragma once

#include <cstdint>
#include <ostream>
#include <vector>

namespace glnet {

struct Shape : std::vector<int64_t> {
  using vector::vector;
};

inline int64_t element_count(const Shape& shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

inline std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  out << '[';
  for (size_t i = 0; i < shape.size(); ++i) out << (i ? ", " : "") << shape[i];
  return out << ']';
}

}  // namespace glnet
