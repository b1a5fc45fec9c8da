#include <cmath>

#include "cpu/exp.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

constexpr int64_t kBlock = 1024;

/// exp(x - largest), NaN if largest is infinite.
template <class T>
[[gnu::always_inline]] inline void exponentials(float* y, const T* x, float largest, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = exp_of_negative(static_cast<float>(x[i]) - largest);
}

template <class T>
[[gnu::always_inline]] inline float largest_of(const T* x, int64_t n) {
  float largest = -INFINITY;
  for (int64_t i = 0; i < n; ++i)
    largest = static_cast<float>(x[i]) > largest ? static_cast<float>(x[i]) : largest;
  return largest;
}

/// In 16 parts: exacter than one after the other, and a vector wide.
[[gnu::always_inline]] inline float sum_of(const float* x, int64_t n) {
  float parts[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int64_t j = 0; j < 16; ++j) parts[j] += x[i + j];
  }
  float sum = 0;
  for (; i < n; ++i) sum += x[i];
  for (const float part : parts) sum += part;
  return sum;
}

/// Few classes: many rows at once, so that the exponentials fill the vectors.
template <class T>
GLNET_MULTIVERSION void short_rows(T* y, const T* x, int64_t rows, int64_t classes) {
  float values[kBlock];
  while (rows > 0) {
    const int64_t some = std::min(rows, kBlock / classes), n = some * classes;
    for (int64_t i = 0; i < n; i += classes) {
      const float largest = largest_of(x + i, classes);
      for (int64_t k = 0; k < classes; ++k) values[i + k] = static_cast<float>(x[i + k]) - largest;
    }
    for (int64_t i = 0; i < n; ++i) values[i] = exp_of_negative(values[i]);
    for (int64_t i = 0; i < n; i += classes) {
      const float scale = 1 / sum_of(values + i, classes);
      for (int64_t k = 0; k < classes; ++k) y[i + k] = T(values[i + k] * scale);
    }
    x += n, y += n, rows -= some;
  }
}

/// More classes than the buffer holds: their exponentials are computed twice.
template <class T>
GLNET_MULTIVERSION void long_row(T* y, const T* x, int64_t classes) {
  float values[kBlock];
  const float largest = largest_of(x, classes);
  double sum = 0;
  for (int64_t i = 0; i < classes; i += kBlock) {
    const int64_t n = std::min(kBlock, classes - i);
    exponentials(values, x + i, largest, n);
    sum += sum_of(values, n);
  }
  const auto scale = static_cast<float>(1 / sum);
  for (int64_t i = 0; i < classes; i += kBlock) {
    const int64_t n = std::min(kBlock, classes - i);
    exponentials(values, x + i, largest, n);
    for (int64_t k = 0; k < n; ++k) y[i + k] = T(values[k] * scale);
  }
}

}  // namespace

void softmax(const Softmax& op, const Context& context) {
  with_type(op.kName, op.x.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t classes = op.x.shape.back();
    parallel_ranges(context.threads, op.x.size() / classes, [&](int64_t begin, int64_t end) {
      const T* x = op.x.as<const T>() + begin * classes;
      T* y = op.y.as<T>() + begin * classes;
      if (classes <= kBlock) return short_rows(y, x, end - begin, classes);
      for (int64_t row = begin; row < end; ++row, x += classes, y += classes) long_row(y, x, classes);
    });
  });
}

}  // namespace glnet::cpu
