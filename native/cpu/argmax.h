// The labels of pixels, for argmax and stitch.
#pragma once

#include <algorithm>
#include <cstdint>

namespace glnet::cpu {

/// For each of `rows` rows of values, the index of the largest: the first of equal ones, NaN counting as
/// largest.
template <class T>
[[gnu::always_inline]] inline void label_rows(uint8_t* labels, const T* x, int64_t rows, int64_t classes) {
  constexpr int64_t kLanes = 16;  // rows side by side, to fill a vector
  for (int64_t i = 0; i < rows; i += kLanes) {
    const int64_t lanes = std::min(rows - i, kLanes);
    const T* values = x + i * classes;
    float largest[kLanes];
    int32_t index[kLanes] = {};
    for (int64_t j = 0; j < lanes; ++j) largest[j] = static_cast<float>(values[j * classes]);
    for (int32_t k = 1; k < classes; ++k) {
      for (int64_t j = 0; j < lanes; ++j) {
        const auto v = static_cast<float>(values[j * classes + k]);
        const bool better = (v > largest[j]) | ((v != v) & (largest[j] == largest[j]));
        index[j] = better ? k : index[j];
        largest[j] = better ? v : largest[j];
      }
    }
    for (int64_t j = 0; j < lanes; ++j) labels[i + j] = static_cast<uint8_t>(index[j]);
  }
}

}  // namespace glnet::cpu
