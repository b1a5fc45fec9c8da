// Lists of tensors for the ops that take all parameters of a network.
#pragma once

#include <utility>

#include "test/harness.h"

namespace glnet::test {

/// Small and odd ones, and one of several chunks of any device.
inline std::vector<Shape> odd_shapes() {
  return {{1}, {31}, {7, 3, 3, 3}, {67, 31, 3, 3}, {2}, {4096}, {4097}, {33, 1031}, {5, 11}, {131072}, {13}};
}

/// ResNet-50 without its classifier: 159 tensors, 23.5 million numbers.
inline std::vector<Shape> resnet50_shapes() {
  std::vector<Shape> shapes;
  const auto layer = [&](int64_t out, int64_t in, int64_t size) {
    shapes.insert(shapes.end(), {Shape{out, in, size, size}, Shape{out}, Shape{out}});
  };
  layer(64, 3, 7);
  int64_t in = 64, width = 64;
  for (const int blocks : {3, 4, 6, 3}) {
    for (int block = 0; block < blocks; ++block) {
      layer(width, in, 1);
      layer(width, width, 3);
      layer(4 * width, width, 1);
      if (block == 0) layer(4 * width, in, 1);
      in = 4 * width;
    }
    width *= 2;
  }
  return shapes;
}

/// A list of float32 tensors, uniform from low to high.
template <class V>
std::vector<V> make_list(Builder& b, const std::vector<Shape>& shapes, double low = -1, double high = 1) {
  std::vector<V> list;
  for (const Shape& shape : shapes) list.push_back({b.floats(shape, low, high)});
  return list;
}

/// A number from low to high for each parameter.
inline std::vector<float> make_rates(Builder& b, size_t count, double low, double high) {
  const View values = b.floats({static_cast<int64_t>(count)}, low, high);
  return {values.as<float>(), values.as<float>() + count};
}

/// An optimiser's results as its next step takes them.
template <class V>
void take_results(std::vector<V>& list, const std::string& name, const std::vector<Output>& results) {
  size_t next = 0;
  for (const Output& result : results) {
    if (result.name == name) static_cast<View&>(list.at(next++)) = result.view;
  }
}

}  // namespace glnet::test
