#pragma once

#include <algorithm>
#include <cmath>

#include "test/harness.h"

namespace glnet::test {

/// Labels of every class, and of one that there is not.
inline View make_labels(Builder& b, const Shape& shape, int64_t classes) {
  const View labels = b.zeros(shape, DType::uint8);
  for (int64_t i = 0; i < labels.size(); ++i) {
    labels.as<uint8_t>()[i] =
        static_cast<uint8_t>(b.integer(0, static_cast<int>(std::min<int64_t>(classes, 255))));
  }
  return labels;
}

/// Labels `down` and `across` times as fine as logits from -range to range.
inline FocalLoss make_focal_loss(Builder& b, const Shape& logits, int down, int across, float gamma,
                                 double range = 4) {
  FocalLoss op;
  op.logits = {b.tensor(logits, -range, range)};
  op.labels = {make_labels(b, {logits[0], logits[1] * down, logits[2] * across}, logits[3])};
  op.gamma = gamma;
  return op;
}

/// A pixel a row of logits, with labels on their grid.
inline FocalLoss make_focal_loss(Builder& b, const std::vector<std::vector<double>>& rows,
                                 const std::vector<int>& labels, float gamma) {
  std::vector<double> values;
  for (const auto& row : rows) values.insert(values.end(), row.begin(), row.end());
  const auto pixels = static_cast<int64_t>(rows.size());
  FocalLoss op;
  op.logits = {b.values({1, 1, pixels, static_cast<int64_t>(rows[0].size())}, values)};
  op.labels = {b.zeros({1, 1, pixels}, DType::uint8)};
  for (int64_t i = 0; i < pixels; ++i) {
    op.labels.as<uint8_t>()[i] = static_cast<uint8_t>(labels[static_cast<size_t>(i)]);
  }
  op.gamma = gamma;
  return op;
}

/// Two classes whose logits are `from` to `to` apart, the first being the label.
inline FocalLoss make_margins(Builder& b, double from, double to, int pixels, float gamma) {
  std::vector<std::vector<double>> rows;
  for (int i = 0; i < pixels; ++i) rows.push_back({from + (to - from) * i / pixels, 0});
  return make_focal_loss(b, rows, std::vector<int>(rows.size(), 0), gamma);
}

/// The gradient of the reference against central differences of its loss, in double.
inline std::string finite_differences(float gamma) {
  Builder b(DType::float64, 1);
  FocalLoss op = make_focal_loss(b, {2, 3, 2, 5}, 2, 1, gamma);
  op.class_weights = {b.floats({5}, 0.5, 2)};
  op.ignored = 3;
  op.scale = 1.5f;
  // Two pixels whose probabilities are clamped, and one almost.
  for (int64_t pixel = 0; pixel < 3; ++pixel) {
    const int64_t label = op.labels.as<uint8_t>()[pixel / 2 * 4 + 2 + pixel % 2] % 5;
    op.logits.as<double>()[pixel * 5 + label] = pixel == 0 ? 30 : pixel == 1 ? -30 : 12;
  }
  const auto loss_of = [&] { return reference::load(evaluated(op, b, false).loss, 0); };
  const View gradient = evaluated(op, b).gradient;
  const auto exact_loss = [&] { return reference::load(evaluated(op, b).loss, 0); };
  if (std::abs(loss_of() - exact_loss()) > 1e-6 * exact_loss()) return "the losses differ";
  double largest = 0;
  for (int64_t i = 0; i < gradient.size(); ++i) {
    largest = std::max(largest, std::abs(gradient.as<double>()[i]));
  }
  if (largest < 1e-3) return "the gradient is almost zero";
  for (int64_t i = 0; i < gradient.size(); ++i) {
    double& logit = op.logits.as<double>()[i];
    const double at = logit, step = 1e-5;
    logit = at + step;
    const double above = exact_loss();
    logit = at - step;
    const double below = exact_loss();
    logit = at;
    const double slope = (above - below) / (2 * step), got = gradient.as<double>()[i];
    if (std::abs(got - slope) <= 1e-8 * largest) continue;
    std::ostringstream wrong;
    wrong << "element " << i << " of the gradient is " << got << ", the difference quotient " << slope;
    return wrong.str();
  }
  return {};
}

inline void focal_loss_cases(Suite& suite) {
  for (const int64_t classes : {2, 3, 7, 21, 33, 65}) {
    for (const float gamma : {0.0f, 0.5f, 1.0f, 2.0f, 6.0f}) {
      std::ostringstream name;
      name << classes << " classes, gamma " << gamma;
      suite.add<FocalLoss>(name.str(),
                           [=](Builder& b) { return make_focal_loss(b, {2, 13, 31, classes}, 1, 1, gamma); });
      suite.add<FocalLoss>(name.str() + ", weighted, a label ignored, scaled", [=](Builder& b) {
        FocalLoss op = make_focal_loss(b, {1, 7, 33, classes}, 1, 1, gamma);
        op.class_weights = {b.floats({classes}, 0.1, 5)};
        op.ignored = 1;
        op.scale = 0.15f;
        return op;
      });
    }
  }
  for (const auto& [down, across] : {std::pair{4, 4}, {2, 3}, {1, 5}, {7, 1}}) {
    std::ostringstream name;
    name << "labels " << down << " x " << across << " times as fine";
    suite.add<FocalLoss>(name.str(), [=, down = down, across = across](Builder& b) {
      return make_focal_loss(b, {3, 5, 37, 7}, down, across, 6);
    });
  }
  suite.add<FocalLoss>("one pixel", [](Builder& b) { return make_focal_loss(b, {{1, 2, 0.5}}, {1}, 6); });
  suite.add<FocalLoss>("256 classes",
                       [](Builder& b) { return make_focal_loss(b, {1, 3, 11, 256}, 1, 1, 2, 8); });
  suite.add<FocalLoss>("many pixels",
                       [](Builder& b) { return make_focal_loss(b, {3, 67, 131, 2}, 1, 1, 2); });
  for (const float gamma : {0.0f, 0.5f, 2.0f, 6.0f}) {
    const std::string with_gamma = ", gamma " + std::to_string(gamma).substr(0, 3);
    for (const int64_t classes : {2, 7, 65}) {
      suite.add<FocalLoss>(
          "logits up to 1e4, " + std::to_string(classes) + " classes" + with_gamma,
          [=](Builder& b) { return make_focal_loss(b, {1, 7, 31, classes}, 1, 1, gamma, 1e4); });
    }
    suite.add<FocalLoss>("margins through both clamps" + with_gamma,
                         [=](Builder& b) { return make_margins(b, -20, 20, 701, gamma); });
    // With gamma 6 these are below 1e-20 and 1e-48, where float32 ends.
    if (gamma == 6) continue;
    suite.add<FocalLoss>("probabilities of almost 1" + with_gamma,
                         [=](Builder& b) { return make_margins(b, 8, 8.25, 61, gamma); });
    suite.add<FocalLoss>("clamped at 1 - 1e-7" + with_gamma,
                         [=](Builder& b) { return make_margins(b, 17, 30, 61, gamma); });
  }
  for (const int64_t classes : {7, 40}) {
    const std::string name = ", " + std::to_string(classes) + " classes";
    suite.add<FocalLoss>("all ignored" + name, [=](Builder& b) {
      FocalLoss op = make_focal_loss(b, {1, 7, 31, classes}, 1, 1, 6);
      std::fill_n(op.labels.as<uint8_t>(), op.labels.size(), uint8_t{3});
      op.ignored = 3;
      return op;
    });
    suite.add<FocalLoss>("no label is a class" + name, [=](Builder& b) {
      FocalLoss op = make_focal_loss(b, {1, 7, 31, classes}, 4, 4, 6);
      std::fill_n(op.labels.as<uint8_t>(), op.labels.size(), uint8_t{255});
      return op;
    });
    // A pixel each: in the label's logit or another's, valid or not.
    for (const double value : {double{NAN}, double{INFINITY}, -double{INFINITY}}) {
      for (const int place : {0, 1}) {
        for (const int label : {0, 255}) {
          std::ostringstream of;
          of << value << " at " << place << ", label " << label << name;
          suite.add<FocalLoss>(of.str(), [=](Builder& b) {
            std::vector<std::vector<double>> rows(40, std::vector<double>(static_cast<size_t>(classes), 0.5));
            std::vector<int> labels(40, 2);
            rows[20][static_cast<size_t>(place)] = value;
            labels[20] = label;
            return make_focal_loss(b, rows, labels, 2);
          });
        }
      }
    }
    suite.add<FocalLoss>("nothing but -inf" + name, [=](Builder& b) {
      std::vector<std::vector<double>> rows(3, std::vector<double>(static_cast<size_t>(classes), 1));
      std::fill(rows[1].begin(), rows[1].end(), -INFINITY);
      return make_focal_loss(b, rows, {0, 1, 2}, 1);
    });
  }
  suite.direct("focal_loss", "known values", [](Device& device) {
    Builder b(DType::float32, 1);
    const FocalLoss op = make_focal_loss(b, {{0, 0}, {9, 9}, {5, 4}, {0, 0}}, {1, 0, 2, 255}, 2);
    const auto outputs = run_device(op, b, device);
    // p = 1/2: a quarter of log 2; g = (1 + 2 log 2) / 4, times 1/2, over two valid pixels.
    const double log2 = std::log(2.0), slope = (1 + 2 * log2) / 16;
    const double expected[] = {log2 / 4, 2, slope, -slope, -slope, slope, 0, 0, 0, 0};
    size_t next = 0;
    for (const Output& output : outputs) {
      for (int64_t i = 0; i < output.view.size(); ++i) {
        const double got = reference::load(output.view, i);
        if (std::abs(got - expected[next++]) > 1e-6) return output.name + " is not as expected";
      }
    }
    return std::string();
  });
  for (const float gamma : {0.0f, 0.5f, 1.0f, 2.0f, 6.0f}) {
    suite.direct("focal_loss", "the reference's gradient is that of its loss, gamma " + std::to_string(gamma),
                 [=](Device&) { return finite_differences(gamma); });
  }
  suite.direct("focal_loss", "the same bits with any number of threads", [](Device& device) {
    Builder b(DType::float32, 1);
    const FocalLoss op = make_focal_loss(b, {2, 61, 67, 7}, 2, 2, 6);
    const auto first = run_device(op, b, device);
    for (const int threads : {1, 3, 7}) {
      Device other(device.backend(), {.threads = threads});
      const auto again = run_device(op, b, other);
      for (size_t i = 0; i < first.size(); ++i) {
        if (std::memcmp(first[i].view.data, again[i].view.data, first[i].view.bytes())) {
          return first[i].name + " differs with " + std::to_string(threads) + " threads";
        }
      }
    }
    return std::string();
  });

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, FocalLoss&)> spoil) {
    suite.refuses<FocalLoss>(
        name, [](Builder& b) { return make_focal_loss(b, {2, 3, 5, 4}, 2, 2, 6); }, spoil, expected);
  };
  refuses("logits of another rank", "logits must have 4 dimensions",
          [](Builder& b, auto& op) { op.logits = {b.tensor({3, 5, 4})}; });
  refuses("logits that are not floating", "logits cannot be int32",
          [](Builder& b, auto& op) { op.logits = {b.zeros({2, 3, 5, 4}, DType::int32)}; });
  refuses("one class", "logits of 1 classes; expected 2 to 256",
          [](Builder& b, auto& op) { op.logits = {b.tensor({2, 3, 5, 1})}; });
  refuses("257 classes", "logits of 257 classes",
          [](Builder& b, auto& op) { op.logits = {b.tensor({2, 3, 5, 257})}; });
  refuses("labels of another rank", "labels must have 3 dimensions",
          [](Builder& b, auto& op) { op.labels = {b.bytes({2, 6, 10, 1})}; });
  refuses("labels that are not bytes", "labels must be uint8, and is int32",
          [](Builder& b, auto& op) { op.labels = {b.zeros({2, 6, 10}, DType::int32)}; });
  for (const Shape& shape : {Shape{1, 6, 10}, Shape{2, 7, 10}, Shape{2, 6, 11}, Shape{2, 1, 5}}) {
    std::ostringstream name;
    name << "labels " << shape;
    refuses(name.str(), "are not a multiple of the grid of logits [2, 3, 5, 4]",
            [=](Builder& b, auto& op) { op.labels = {b.bytes(shape)}; });
  }
  refuses("weights of another size", "classWeights must have shape [4]",
          [](Builder& b, auto& op) { static_cast<View&>(op.class_weights) = b.floats({5}); });
  refuses("weights in bfloat16", "classWeights must be float32",
          [](Builder& b, auto& op) { static_cast<View&>(op.class_weights) = b.zeros({4}, DType::bfloat16); });
  refuses("a negative gamma", "gamma -1 must be 0 or more", [](Builder&, auto& op) { op.gamma = -1; });
  refuses("gamma NaN", "must be 0 or more, and finite", [](Builder&, auto& op) { op.gamma = NAN; });
  refuses("an infinite gamma", "must be 0 or more, and finite",
          [](Builder&, auto& op) { op.gamma = INFINITY; });
  refuses("ignored 256", "ignored 256 must be a label, or -1", [](Builder&, auto& op) { op.ignored = 256; });
  refuses("ignored -2", "ignored -2 must be a label", [](Builder&, auto& op) { op.ignored = -2; });

  suite.bench<FocalLoss>("6x127x127x7, labels 508x508",
                         [](Builder& b) { return make_focal_loss(b, {6, 127, 127, 7}, 4, 4, 6); });
  suite.bench<FocalLoss>("6x127x127x65",
                         [](Builder& b) { return make_focal_loss(b, {6, 127, 127, 65}, 1, 1, 6); });
}

}  // namespace glnet::test
