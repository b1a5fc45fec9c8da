#pragma once

#include "test/cases/pixel_loss.h"

namespace glnet::test {

inline void dice_loss_cases(Suite& suite) {
  const Limits limits{.bfloat16 = false};
  for (const int64_t classes : {2, 3, 7, 21, 33, 65, 256}) {
    const std::string name = std::to_string(classes) + " classes";
    suite.add<DiceLoss>(
        name, [=](Builder& b) { return make_pixel_loss<DiceLoss>(b, {2, 13, 31, classes}); }, limits);
    suite.add<DiceLoss>(
        name + ", weighted, a label ignored, scaled, another smooth",
        [=](Builder& b) {
          auto op = make_pixel_loss<DiceLoss>(b, {1, 7, 33, classes});
          op.class_weights = {b.floats({classes}, 0.1, 5)};
          op.ignored = 1;
          op.scale = 0.15f;
          op.smooth = 0.01f;
          return op;
        },
        limits);
  }
  for (const auto& [down, across] : {std::pair{4, 4}, {2, 3}, {1, 5}, {7, 1}}) {
    std::ostringstream name;
    name << "labels " << down << " x " << across << " times as fine";
    suite.add<DiceLoss>(
        name.str(),
        [=, down = down, across = across](Builder& b) {
          return make_pixel_loss<DiceLoss>(b, {3, 5, 37, 7}, down, across);
        },
        limits);
  }
  suite.add<DiceLoss>(
      "one pixel", [](Builder& b) { return make_pixel_rows<DiceLoss>(b, {{1, 2, 0.5}}, {1}); }, limits);
  suite.add<DiceLoss>(
      "many pixels", [](Builder& b) { return make_pixel_loss<DiceLoss>(b, {3, 131, 67, 2}); }, limits);
  suite.add<DiceLoss>(
      "labels that are almost certain",
      [](Builder& b) {
        std::vector<std::vector<double>> rows;
        std::vector<int> labels;
        for (int i = 0; i < 301; ++i) {
          rows.push_back({0, 0, 0});
          rows.back()[static_cast<size_t>(i % 3)] = 8 + 0.02 * i;
          labels.push_back(i % 3);
        }
        return make_pixel_rows<DiceLoss>(b, rows, labels);
      },
      limits);
  // p is 1/2 everywhere: both dice are (1 + 1) / (1 + 1 + 1).
  suite.direct("dice_loss", "known values", [](Device& device) {
    Builder b(DType::float32, 1);
    const auto op = make_pixel_rows<DiceLoss>(b, {{3, 3}, {0, 0}, {9, -9}}, {0, 1, 255});
    const double slope = 1.0 / 12;
    return expect_values(device, op, b, {1.0 / 3, 2, -slope, slope, slope, -slope, 0, 0});
  });
  for (const float scale : {1.0f, 1.5f}) {
    suite.gradient<DiceLoss>(
        "logits, scale " + std::to_string(scale).substr(0, 3),
        [=](Builder& b) {
          auto op = make_pixel_loss<DiceLoss>(b, {2, 3, 5, 4}, 2, 1, 2);
          op.class_weights = {b.floats({4}, 0.5, 2)};
          op.ignored = 3;
          op.scale = scale;
          op.smooth = 0.5f;
          return op;
        },
        "loss", "logits", scaled_gradient<DiceLoss>);
  }
  pixel_loss_cases<DiceLoss>(suite);
  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, DiceLoss&)> spoil) {
    suite.refuses<DiceLoss>(
        name, [](Builder& b) { return make_pixel_loss<DiceLoss>(b, {2, 3, 5, 4}, 2, 2); }, spoil, expected);
  };
  refuses("weights of another size", "classWeights must have shape [4]",
          [](Builder& b, auto& op) { static_cast<View&>(op.class_weights) = b.floats({5}); });
  refuses("smooth of 0", "smooth 0 must be above 0", [](Builder&, auto& op) { op.smooth = 0; });
  refuses("smooth infinite", "smooth inf must be above 0, and finite",
          [](Builder&, auto& op) { op.smooth = INFINITY; });
}

}  // namespace glnet::test
