#include "test/harness.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace glnet::test {

View Builder::allocate(Shape shape, DType dtype) {
  View view{nullptr, std::move(shape), dtype, nullptr};
  memory_.emplace_back(view.bytes() / sizeof(double) + 1, 0.0);
  view.data = memory_.back().data();
  return view;
}

View Builder::uniform(Shape shape, DType dtype, double low, double high) {
  const View view = allocate(std::move(shape), dtype);
  std::uniform_real_distribution<double> draw(low, high);
  for (int64_t i = 0; i < view.size(); ++i) reference::store(view, i, draw(random_));
  return view;
}

View Builder::bytes(Shape shape) {
  const View view = allocate(std::move(shape), DType::uint8);
  for (int64_t i = 0; i < view.size(); ++i) view.as<uint8_t>()[i] = static_cast<uint8_t>(random_());
  return view;
}

View Builder::values(Shape shape, const std::vector<double>& values) {
  const View view = allocate(std::move(shape), dtype_);
  for (int64_t i = 0; i < view.size(); ++i) reference::store(view, i, values.at(static_cast<size_t>(i)));
  return view;
}

double error_of(const View& got, const View& exact) {
  double difference = 0, magnitude = 0;
  for (int64_t i = 0; i < exact.size(); ++i) {
    const double a = reference::load(got, i), b = reference::load(exact, i);
    if (std::isnan(a) || std::isnan(b) || std::isinf(a) || std::isinf(b)) {
      const bool same = (std::isnan(a) && std::isnan(b)) || a == b;
      if (!same) return std::numeric_limits<double>::infinity();
      continue;
    }
    difference += (a - b) * (a - b);
    magnitude += b * b;
  }
  if (difference == 0) return 0;
  return magnitude == 0 ? std::numeric_limits<double>::infinity() : difference / magnitude;
}

std::string judge(const Output& got, const Output& exact, const Output& plain, const Limits& limits,
                  double& worst) {
  std::ostringstream wrong;
  if (got.view.shape != exact.view.shape) {
    wrong << got.name << " has shape " << got.view.shape << ", expected " << exact.view.shape;
  } else if (!is_floating(got.view.dtype)) {
    const auto tolerance = limits.bytes.find(got.name);
    const double limit = tolerance == limits.bytes.end() ? 0 : tolerance->second;
    for (int64_t i = 0; i < got.view.size(); ++i) {
      const double a = reference::load(got.view, i), b = reference::load(exact.view, i);
      if (std::abs(a - b) <= limit) continue;
      wrong << got.name << "[" << i << "] is " << a << ", expected " << b;
      break;
    }
  } else if (limits.exact) {
    const size_t size = size_of(got.view.dtype);
    for (int64_t i = 0; i < got.view.size(); ++i) {
      const size_t at = static_cast<size_t>(i) * size;
      const double a = reference::load(got.view, i), b = reference::load(plain.view, i);
      const bool same = !std::memcmp(got.view.as<std::byte>() + at, plain.view.as<std::byte>() + at, size);
      if (same || (std::isnan(a) && std::isnan(b))) continue;
      wrong << got.name << "[" << i << "] is " << a << ", expected exactly " << b;
      break;
    }
  } else {
    const double error = error_of(got.view, exact.view);
    const double limit = got.view.dtype == DType::float32
                             ? limits.float32
                             : std::max(limits.narrow * error_of(plain.view, exact.view), limits.float32);
    if (got.view.dtype == DType::float32) worst = std::max(worst, error);
    if (!(error <= limit)) {
      int64_t at = 0;
      double largest = -1;
      for (int64_t i = 0; i < got.view.size(); ++i) {
        const double a = reference::load(got.view, i), b = reference::load(exact.view, i);
        const double d =
            std::isnan(a) != std::isnan(b) ? std::numeric_limits<double>::infinity() : std::abs(a - b);
        if (d > largest) largest = d, at = i;
      }
      wrong << got.name << " " << got.view.shape << ": error " << error << ", allowed " << limit
            << "; most at element " << at << ": " << reference::load(got.view, at) << ", expected "
            << reference::load(exact.view, at);
    }
  }
  return wrong.str();
}

}  // namespace glnet::test
