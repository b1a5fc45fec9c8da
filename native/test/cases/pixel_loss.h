// Cases that all losses over pixels have.
#pragma once

#include <cmath>
#include <cstring>

#include "test/cases/focal_loss.h"
#include "test/harness.h"

namespace glnet::test {

/// Labels `down` and `across` times as fine as logits from -range to range.
template <class Op>
Op make_pixel_loss(Builder& b, const Shape& logits, int down = 1, int across = 1, double range = 4) {
  Op op;
  op.logits = {b.tensor(logits, -range, range)};
  op.labels = {make_labels(b, {logits[0], logits[1] * down, logits[2] * across}, logits[3])};
  return op;
}

/// A pixel a row of logits, with labels on their grid.
template <class Op>
Op make_pixel_rows(Builder& b, const std::vector<std::vector<double>>& rows, const std::vector<int>& labels) {
  const FocalLoss focal = make_focal_loss(b, rows, labels, 0);
  Op op;
  op.logits = focal.logits;
  op.labels = focal.labels;
  return op;
}

/// The gradient of a loss, times that of its output.
template <class Op>
View scaled_gradient(Builder& b, const Op& op, const View& dy) {
  const View gradient = widened(op.gradient, b);
  for (int64_t i = 0; i < gradient.size(); ++i) gradient.as<double>()[i] *= dy.as<double>()[0];
  return gradient;
}

/// What a device computes of an op, against values in the order of its outputs.
template <class Op>
std::string expect_values(Device& device, const Op& op, Builder& b, const std::vector<double>& expected) {
  size_t next = 0;
  for (const Output& output : run_device(op, b, device)) {
    for (int64_t i = 0; i < output.view.size(); ++i) {
      const double got = reference::load(output.view, i);
      if (std::abs(got - expected.at(next)) > 1e-6) {
        std::ostringstream wrong;
        wrong << output.name << "[" << i << "] is " << got << ", expected " << expected[next];
        return wrong.str();
      }
      ++next;
    }
  }
  return next == expected.size() ? "" : "there are fewer values than expected";
}

/// What has no valid pixel, or pixels that are not numbers; the same bits again; refusals. For losses in
/// float32 whose loss is not a number as soon as a valid pixel is not.
template <class Op>
void pixel_loss_cases(Suite& suite) {
  const Limits limits{.bfloat16 = false};
  for (const int64_t classes : {7, 40}) {
    const std::string name = ", " + std::to_string(classes) + " classes";
    suite.add<Op>(
        "all ignored" + name,
        [=](Builder& b) {
          Op op = make_pixel_loss<Op>(b, {1, 7, 31, classes});
          std::fill_n(op.labels.template as<uint8_t>(), op.labels.size(), uint8_t{3});
          op.ignored = 3;
          return op;
        },
        limits);
    suite.add<Op>(
        "no label is a class" + name,
        [=](Builder& b) {
          Op op = make_pixel_loss<Op>(b, {1, 7, 31, classes}, 4, 4);
          std::fill_n(op.labels.template as<uint8_t>(), op.labels.size(), uint8_t{255});
          return op;
        },
        limits);
    // In the label's logit or another's, valid or not.
    for (const double value : {double{NAN}, double{INFINITY}, -double{INFINITY}}) {
      for (const int place : {0, 1}) {
        for (const int label : {1, 255}) {
          std::ostringstream which;
          which << "a logit " << value << " at " << place << ", label " << label << name;
          suite.add<Op>(
              which.str(),
              [=](Builder& b) {
                std::vector<std::vector<double>> rows;
                std::vector<int> labels;
                for (int i = 0; i < 40; ++i) {
                  rows.emplace_back(static_cast<size_t>(classes), 0.5);
                  rows.back()[0] += 0.1 * i;
                  labels.push_back(i % 3);
                }
                rows[20][static_cast<size_t>(place)] = value;
                labels[20] = label;
                return make_pixel_rows<Op>(b, rows, labels);
              },
              limits);
        }
      }
    }
  }
  suite.direct(Op::kName, "the same bits with any number of threads", [](Device& device) {
    Builder b(DType::float32, 1);
    const Op op = make_pixel_loss<Op>(b, {2, 61, 67, 7}, 2, 2);
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
                           std::function<void(Builder&, Op&)> spoil) {
    suite.refuses<Op>(
        name, [](Builder& b) { return make_pixel_loss<Op>(b, {2, 3, 5, 4}, 2, 2); }, spoil, expected);
  };
  refuses("logits of another rank", "logits must have 4 dimensions",
          [](Builder& b, auto& op) { op.logits = {b.tensor({3, 5, 4})}; });
  refuses("logits in bfloat16", "logits must be float32, and is bfloat16",
          [](Builder& b, auto& op) { op.logits = {b.zeros({2, 3, 5, 4}, DType::bfloat16)}; });
  refuses("one class", "logits of 1 classes; expected 2 to 256",
          [](Builder& b, auto& op) { op.logits = {b.tensor({2, 3, 5, 1})}; });
  refuses("labels that are not bytes", "labels must be uint8, and is int32",
          [](Builder& b, auto& op) { op.labels = {b.zeros({2, 6, 10}, DType::int32)}; });
  refuses("labels of another size", "are not a multiple of the grid of logits [2, 3, 5, 4]",
          [](Builder& b, auto& op) { op.labels = {b.bytes({2, 7, 10})}; });
  refuses("ignored 256", "ignored 256 must be a label, or -1", [](Builder&, auto& op) { op.ignored = 256; });
  refuses("a scale NaN", "must be finite", [](Builder&, auto& op) { op.scale = NAN; });
  suite.bench<Op>("6x127x127x7, labels 508x508",
                  [](Builder& b) { return make_pixel_loss<Op>(b, {6, 127, 127, 7}, 4, 4); });
}

}  // namespace glnet::test
