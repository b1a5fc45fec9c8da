// Sizes of a tensor, outermost first. Activations are NHWC, convolution weights OIHW, all contiguous.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <ostream>

#include "core/error.h"

namespace glnet {

/// As a std::vector, but without memory of its own: every queued op holds the shapes of all its tensors.
class Shape {
 public:
  static constexpr size_t kMostDimensions = 8;

  Shape() = default;
  explicit Shape(size_t n) : size_(n) {
    check(n <= kMostDimensions, "a tensor has at most ", kMostDimensions, " dimensions, not ", n);
  }
  Shape(std::initializer_list<int64_t> sizes) : Shape(sizes.begin(), sizes.end()) {}
  Shape(const int64_t* first, const int64_t* last) : Shape(static_cast<size_t>(last - first)) {
    std::copy(first, last, sizes_);
  }

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  int64_t& operator[](size_t i) { return sizes_[i]; }
  int64_t operator[](size_t i) const { return sizes_[i]; }
  int64_t back() const { return sizes_[size_ - 1]; }
  const int64_t* begin() const { return sizes_; }
  const int64_t* end() const { return sizes_ + size_; }

  bool operator==(const Shape& other) const { return std::equal(begin(), end(), other.begin(), other.end()); }

 private:
  size_t size_ = 0;
  int64_t sizes_[kMostDimensions] = {};
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
