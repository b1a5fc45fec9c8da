#include <algorithm>
#include <cmath>
#include <vector>

#include "reference/kernels.h"

namespace glnet::reference {
namespace {

/// The weights of output pixel i, whole numbers of 2^-22, for pixels `first` and on.
struct Weights {
  int64_t first;
  std::vector<double> values;

  Weights(int64_t i, int64_t in, int64_t out) {
    const double scale = static_cast<double>(in) / static_cast<double>(out), support = std::max(scale, 1.0);
    const double centre = (static_cast<double>(i) + 0.5) * scale, step = 1 / support;
    first = std::max<int64_t>(0, static_cast<int64_t>(std::floor(centre - support + 0.5)));
    const int64_t end = std::min(in, static_cast<int64_t>(std::floor(centre + support + 0.5)));
    double total = 0;
    for (int64_t j = first; j < end; ++j) {
      values.push_back(std::max(0.0, 1 - std::abs((static_cast<double>(j) - centre + 0.5) * step)));
      total += values.back();
    }
    for (double& v : values) v = std::floor(v / total * (1 << 22) + 0.5);
  }
};

double round_to_byte(double sum) {
  return std::clamp(std::floor(sum / (1 << 22) + 0.5), 0.0, 255.0);
}

}  // namespace

void triangle_resize(const TriangleResize& op, const Context&) {
  const View &x = op.x, &sum = op.sum;
  const int64_t rows = x.dim(0), in_width = x.dim(1), channels = x.dim(2);
  const int64_t height = sum.dim(0), width = sum.dim(1);
  if (op.row == 0) {
    for (int64_t i = 0; i < sum.size(); ++i) store(sum, i, 0);
  }
  for (int64_t row = 0; row < rows; ++row) {
    std::vector<double> narrowed;
    for (int64_t column = 0; column < width; ++column) {
      const Weights weights(column, in_width, width);
      for (int64_t c = 0; c < channels; ++c) {
        double v = 0;
        for (size_t j = 0; j < weights.values.size(); ++j) {
          const int64_t from = weights.first + static_cast<int64_t>(j);
          v += weights.values[j] * load(x, (row * in_width + from) * channels + c);
        }
        narrowed.push_back(round_to_byte(v));
      }
    }
    for (int64_t target = 0; target < height; ++target) {
      const Weights weights(target, op.image_height, height);
      const int64_t j = op.row + row - weights.first;
      if (j < 0 || j >= static_cast<int64_t>(weights.values.size())) continue;
      for (size_t i = 0; i < narrowed.size(); ++i) {
        const int64_t at = target * width * channels + static_cast<int64_t>(i);
        store(sum, at, load(sum, at) + weights.values[static_cast<size_t>(j)] * narrowed[i]);
      }
    }
  }
  for (int64_t i = 0; i < sum.size(); ++i) store(op.y, i, round_to_byte(load(sum, i)));
}

}  // namespace glnet::reference
