#pragma once

#include "test/cases/pixel_loss.h"

namespace glnet::test {

// Weights depend on the order of errors alone, so errors that float32 cannot tell apart get another gradient
// than in double. Random logits are few, and many pixels have errors at even distances.

/// Two classes and errors at even distances, from 0 to 1 in a random order.
inline LovaszLoss make_even_errors(Builder& b, int pixels) {
  std::vector<int> order(static_cast<size_t>(pixels));
  for (int i = 0; i < pixels; ++i) order[static_cast<size_t>(i)] = i;
  for (int i = pixels - 1; i > 0; --i)
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(b.integer(0, i))]);
  std::vector<std::vector<double>> rows;
  std::vector<int> labels;
  for (const int place : order) {
    const double error = (place + 0.5) / pixels;
    const int label = b.integer(0, 2);
    rows.push_back({0, 0});
    rows.back()[static_cast<size_t>(label % 2)] = std::log((1 - error) / error);
    labels.push_back(label < 2 ? label : 255);
  }
  return make_pixel_rows<LovaszLoss>(b, rows, labels);
}

/// Of predictions that are certain the loss is 1 - intersection over union, averaged over the classes that
/// occur.
inline std::string loss_is_jaccard(Device& device) {
  constexpr int kClasses = 5, kPixels = 701;
  Builder b(DType::float32, 1);
  std::vector<std::vector<double>> rows;
  std::vector<int> labels;
  double both[kClasses] = {}, either[kClasses] = {}, occurring[kClasses] = {};
  for (int i = 0; i < kPixels; ++i) {
    // The last class is predicted, and never the label.
    const int label = b.integer(0, kClasses - 2),
              predicted = b.integer(0, 2) ? label : b.integer(0, kClasses - 1);
    rows.emplace_back(kClasses, 0.0);
    rows.back()[static_cast<size_t>(predicted)] = 100;
    labels.push_back(label);
    ++occurring[label];
    both[label] += label == predicted;
    ++either[label];
    if (label != predicted) ++either[predicted];
  }
  double expected = 0;
  for (int k = 0; k < kClasses - 1; ++k) {
    if (occurring[k] == 0) return "a class does not occur";
    expected += (1 - both[k] / either[k]) / (kClasses - 1);
  }
  const auto op = make_pixel_rows<LovaszLoss>(b, rows, labels);
  const double got = reference::load(run_device(op, b, device)[0].view, 0);
  if (std::abs(got - expected) <= 1e-6) return {};
  return "the loss is " + std::to_string(got) + ", expected " + std::to_string(expected);
}

inline void lovasz_loss_cases(Suite& suite) {
  const Limits limits{.bfloat16 = false};
  for (const int64_t classes : {2, 3, 7, 33}) {
    const std::string name = std::to_string(classes) + " classes";
    suite.add<LovaszLoss>(
        name, [=](Builder& b) { return make_pixel_loss<LovaszLoss>(b, {2, 3, 31, classes}); }, limits);
    suite.add<LovaszLoss>(
        name + ", a label ignored, scaled",
        [=](Builder& b) {
          auto op = make_pixel_loss<LovaszLoss>(b, {1, 5, 33, classes}, 2, 2);
          op.ignored = 1;
          op.scale = 0.15f;
          return op;
        },
        limits);
  }
  for (const auto& [down, across] : {std::pair{4, 4}, {2, 3}, {7, 1}}) {
    std::ostringstream name;
    name << "labels " << down << " x " << across << " times as fine";
    suite.add<LovaszLoss>(
        name.str(),
        [=, down = down, across = across](Builder& b) {
          return make_pixel_loss<LovaszLoss>(b, {3, 5, 7, 7}, down, across);
        },
        limits);
  }
  suite.add<LovaszLoss>(
      "one pixel", [](Builder& b) { return make_pixel_rows<LovaszLoss>(b, {{1, 2, 0.5}}, {1}); }, limits);
  for (const int pixels : {511, 512, 513, 1999}) {
    suite.add<LovaszLoss>(
        std::to_string(pixels) + " pixels with errors at even distances",
        [=](Builder& b) { return make_even_errors(b, pixels); }, limits);
  }
  suite.add<LovaszLoss>(
      "equal errors, in the order of pixels",
      [](Builder& b) {
        std::vector<std::vector<double>> rows;
        std::vector<int> labels;
        for (int i = 0; i < 601; ++i) {
          const std::vector<double> some[] = {{1, 0, -1}, {0, 0, 0}, {-2, 1, 1}};
          rows.push_back(some[b.integer(0, 2)]);
          labels.push_back(b.integer(0, 2));
        }
        return make_pixel_rows<LovaszLoss>(b, rows, labels);
      },
      limits);
  // Errors are 1/2. Class 0 meets its pixel first, weight 1; class 1 second, weights 1/2 and 1/2.
  suite.direct("lovasz_loss", "known values", [](Device& device) {
    Builder b(DType::float32, 1);
    const auto op = make_pixel_rows<LovaszLoss>(b, {{3, 3}, {9, -9}, {0, 0}}, {0, 255, 1});
    return expect_values(device, op, b, {0.5, 2, -0.1875, 0.1875, 0, 0, 0.0625, -0.0625});
  });
  suite.direct("lovasz_loss", "of certain predictions it is the Jaccard loss", loss_is_jaccard);
  for (const float scale : {1.0f, 1.5f}) {
    suite.gradient<LovaszLoss>(
        "logits, scale " + std::to_string(scale).substr(0, 3),
        [=](Builder& b) {
          auto op = make_pixel_loss<LovaszLoss>(b, {2, 3, 5, 4}, 2, 1, 2);
          op.ignored = 3;
          op.scale = scale;
          return op;
        },
        "loss", "logits", scaled_gradient<LovaszLoss>);
  }
  pixel_loss_cases<LovaszLoss>(suite);
}

}  // namespace glnet::test
