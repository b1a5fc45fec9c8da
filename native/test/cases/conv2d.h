#pragma once

#include <cmath>

#include "test/harness.h"

namespace glnet::test {

struct Conv2dSizes {
  int64_t batch, height, width, channels, outputs, kernel;
  int stride, padding;
};

inline std::string name_of(const Conv2dSizes& s) {
  std::ostringstream name;
  name << s.batch << "x" << s.height << "x" << s.width << "x" << s.channels << " to " << s.outputs
       << ", kernel " << s.kernel << ", stride " << s.stride << ", padding " << s.padding;
  return name.str();
}

/// What the backward ops are compared with the reference in.
inline std::vector<Conv2dSizes> backward_sizes() {
  return {
      {1, 1, 1, 1, 1, 1, 1, 0},      {1, 1, 1, 1, 1, 3, 1, 1},      {1, 1, 1, 5, 64, 3, 1, 1},
      {2, 31, 33, 3, 64, 7, 2, 3},   {1, 64, 61, 3, 8, 7, 2, 3},    {1, 31, 33, 5, 7, 3, 1, 1},
      {2, 13, 17, 31, 21, 3, 1, 1},  {3, 7, 5, 64, 7, 3, 1, 1},     {1, 23, 19, 31, 2, 3, 1, 1},
      {1, 19, 23, 16, 3, 5, 1, 2},   {1, 9, 40, 17, 1, 1, 1, 0},    {2, 33, 31, 31, 33, 1, 1, 0},
      {1, 33, 33, 64, 128, 1, 2, 0}, {1, 33, 32, 31, 64, 3, 2, 1},  {1, 31, 31, 16, 2, 3, 2, 1},
      {1, 11, 13, 7, 5, 2, 1, 0},    {1, 11, 13, 7, 5, 4, 3, 2},    {1, 5, 5, 3, 7, 1, 1, 1},
      {1, 3, 3, 3, 4, 3, 1, 4},      {2, 16, 16, 256, 64, 1, 1, 0}, {6, 8, 8, 64, 64, 3, 1, 1},
      {1, 32, 32, 16, 64, 3, 2, 1},  {1, 5, 6, 2, 2, 5, 1, 0},      {1, 23, 29, 40, 131, 3, 1, 1},
      {2, 31, 17, 5, 133, 3, 1, 1},  {1, 12, 15, 6, 4, 1, 3, 0},    {2, 14, 12, 8, 16, 2, 3, 0},
      {2, 31, 33, 37, 41, 3, 2, 1},  {3, 67, 61, 32, 33, 5, 2, 2},  {1, 14, 15, 33, 35, 4, 3, 5},
      {2, 9, 8, 35, 64, 1, 2, 1},
  };
}

/// Small enough for differences: odd sizes, strides that leave pixels out, padding beyond the kernel.
inline std::vector<Conv2dSizes> gradient_sizes() {
  return {{2, 5, 7, 3, 5, 3, 1, 1}, {1, 8, 7, 3, 2, 3, 2, 1}, {1, 9, 11, 2, 3, 4, 3, 2},
          {2, 6, 5, 3, 4, 1, 2, 0}, {1, 3, 3, 2, 3, 3, 1, 4}, {1, 11, 9, 3, 2, 7, 2, 3}};
}

/// ResNet-50 at 508 px in training, a batch of 6, then two layers of the FPN.
inline std::vector<Conv2dSizes> training_layers() {
  return {
      {6, 508, 508, 3, 64, 7, 2, 3},    {6, 127, 127, 64, 64, 1, 1, 0},   {6, 127, 127, 64, 64, 3, 1, 1},
      {6, 127, 127, 64, 256, 1, 1, 0},  {6, 127, 127, 256, 64, 1, 1, 0},  {6, 127, 127, 256, 512, 1, 2, 0},
      {6, 127, 127, 256, 128, 1, 1, 0}, {6, 127, 127, 128, 128, 3, 2, 1}, {6, 64, 64, 128, 128, 3, 1, 1},
      {6, 64, 64, 128, 512, 1, 1, 0},   {6, 64, 64, 512, 128, 1, 1, 0},   {6, 64, 64, 512, 1024, 1, 2, 0},
      {6, 64, 64, 256, 256, 3, 2, 1},   {6, 32, 32, 256, 256, 3, 1, 1},   {6, 32, 32, 256, 1024, 1, 1, 0},
      {6, 32, 32, 1024, 256, 1, 1, 0},  {6, 32, 32, 1024, 2048, 1, 2, 0}, {6, 32, 32, 512, 512, 3, 2, 1},
      {6, 16, 16, 512, 512, 3, 1, 1},   {6, 16, 16, 512, 2048, 1, 1, 0},  {6, 16, 16, 2048, 512, 1, 1, 0},
      {6, 127, 127, 256, 256, 3, 1, 1}, {6, 127, 127, 512, 7, 3, 1, 1},
  };
}

/// By Winograd's algorithm, which the CPU takes for these, rounding errors are larger: of bfloat16 too what
/// is multiplied is rounded, and not the result alone.
inline Limits limits_of(const Conv2dSizes& s) {
  if (s.stride != 1 || s.kernel % 3) return {};
  return {.float32 = 2e-12, .narrow = 24};
}

inline Conv2d random_conv2d(Builder& b, const Conv2dSizes& s, bool bias, bool residual, bool relu) {
  Conv2d op;
  op.x = {b.tensor({s.batch, s.height, s.width, s.channels})};
  op.weight = {b.tensor({s.outputs, s.channels, s.kernel, s.kernel})};
  op.stride = s.stride;
  op.padding = s.padding;
  op.relu = relu;
  if (bias) op.bias = {b.floats({s.outputs})};
  if (residual) {
    op.infer();
    op.residual = {b.tensor(op.y.shape)};
  }
  return op;
}

/// Ones of 33 x 31, C = 5, with some values that are not finite.
inline Conv2d special_conv2d(Builder& b, int64_t outputs, const std::vector<double>& specials) {
  std::vector<double> x(33 * 31 * 5, 1);
  for (size_t i = 0; i < specials.size(); ++i) x[i * 997 + 2] = specials[i];
  Conv2d op;
  op.x = {b.values({1, 33, 31, 5}, x)};
  op.weight = {b.tensor({outputs, 5, 3, 3})};
  op.padding = 1;
  return op;
}

inline Conv2d pooled(Conv2d op) {
  op.pool = true;
  return op;
}

inline void conv2d_cases(Suite& suite) {
  const Conv2dSizes sizes[] = {
      {1, 1, 1, 1, 1, 1, 1, 0},
      {1, 1, 1, 1, 1, 3, 1, 1},
      {1, 1, 1, 5, 64, 3, 1, 1},
      {2, 31, 33, 3, 64, 7, 2, 3},
      {1, 64, 61, 3, 8, 7, 2, 3},
      {1, 31, 33, 5, 7, 3, 1, 1},
      {2, 13, 17, 31, 21, 3, 1, 1},
      {3, 7, 5, 64, 7, 3, 1, 1},
      {1, 23, 19, 31, 2, 3, 1, 1},
      {1, 19, 23, 16, 3, 5, 1, 2},
      {1, 9, 40, 17, 1, 1, 1, 0},
      {2, 33, 31, 31, 33, 1, 1, 0},
      {1, 33, 33, 64, 128, 1, 2, 0},
      {1, 33, 32, 31, 64, 3, 2, 1},
      {1, 31, 31, 16, 2, 3, 2, 1},
      {1, 11, 13, 7, 5, 2, 1, 0},
      {1, 11, 13, 7, 5, 4, 3, 2},
      {1, 5, 5, 3, 7, 1, 1, 1},
      {1, 3, 3, 3, 4, 3, 1, 4},
      {1, 16, 16, 256, 64, 1, 1, 0},
      {6, 16, 16, 64, 64, 3, 1, 1},
      {1, 127, 127, 16, 7, 3, 1, 1},
      {1, 5, 6, 2, 2, 5, 1, 0},
      {1, 23, 29, 40, 131, 3, 1, 1},
      {2, 31, 17, 5, 133, 3, 1, 1},
      {1, 33, 31, 32, 48, 3, 1, 1},
      {2, 18, 15, 128, 64, 3, 1, 1},
      {2, 29, 31, 160, 48, 3, 1, 1},
      {1, 141, 139, 176, 16, 3, 1, 1},
      // On tensor cores: large tiles; a long k in parts, of a narrow tile and of a small one.
      {2, 18, 15, 40, 136, 3, 1, 1},
      {1, 9, 11, 264, 22, 3, 1, 1},
      {1, 7, 9, 72, 40, 3, 1, 1},
      // On the CPU: long sums in parts, of a pixel and of a kernel.
      {1, 6, 5, 1030, 70, 1, 1, 0},
      {1, 3, 5, 1600, 33, 1, 1, 0},
      {1, 7, 6, 200, 80, 3, 1, 1},
      // On the CPU: 3 x 3 parts of a wide kernel.
      {2, 11, 14, 32, 7, 9, 1, 4},
      {1, 20, 8, 64, 3, 9, 1, 3},
      {1, 20, 21, 190, 81, 3, 2, 1},
      // So many pixels that a large card takes large and medium tiles.
      {1, 120, 113, 40, 136, 1, 1, 0},
      {1, 140, 127, 24, 48, 1, 1, 0},
  };
  for (const Conv2dSizes& s : sizes) {
    const Limits limits = limits_of(s);
    suite.add<Conv2d>(
        name_of(s), [=](Builder& b) { return random_conv2d(b, s, false, false, false); }, limits);
    suite.add<Conv2d>(
        name_of(s) + ", bias, residual, relu",
        [=](Builder& b) { return random_conv2d(b, s, true, true, true); }, limits);
  }
  for (int mask = 0; mask < 8; ++mask) {
    const bool bias = mask & 1, residual = mask & 2, relu = mask & 4;
    const std::string with =
        std::string(bias ? ", bias" : "") + (residual ? ", residual" : "") + (relu ? ", relu" : "");
    for (const int64_t outputs : {7, 64}) {
      const Conv2dSizes s{2, 17, 13, 31, outputs, 3, 1, 1};
      suite.add<Conv2d>("to " + std::to_string(outputs) + with,
                        [=](Builder& b) { return random_conv2d(b, s, bias, residual, relu); });
      if (!residual) continue;
      for (const int64_t kernel : {1, 3}) {
        const Conv2dSizes even{2, 17, 13, 32, outputs, kernel, 1, static_cast<int>(kernel / 2)};
        suite.add<Conv2d>(
            "kernel " + std::to_string(kernel) + ", to " + std::to_string(outputs) + with + " overwritten",
            [=](Builder& b) {
              Conv2d op = random_conv2d(b, even, bias, residual, relu);
              op.overwrite = true;
              return op;
            },
            limits_of(even));
      }
    }
  }
  suite.add<Conv2d>("kernel 3 x 5", [](Builder& b) {
    Conv2d op;
    op.x = {b.tensor({1, 17, 19, 5})};
    op.weight = {b.tensor({7, 5, 3, 5})};
    op.bias = {b.floats({7})};
    op.padding = 1;
    return op;
  });
  for (const Conv2dSizes& s : {
           Conv2dSizes{1, 1, 1, 1, 1, 1, 1, 0},
           {1, 9, 2, 5, 7, 3, 1, 1},
           {1, 2, 9, 5, 64, 3, 1, 1},
           {3, 1, 14, 3, 64, 7, 2, 3},
           {3, 14, 1, 3, 7, 7, 2, 3},
           {2, 31, 34, 3, 64, 7, 2, 3},
           {3, 36, 29, 3, 64, 7, 2, 3},
           {2, 21, 22, 5, 64, 7, 2, 3},
           {2, 24, 25, 5, 7, 3, 1, 1},
           {3, 11, 12, 3, 64, 3, 1, 1},
           {2, 30, 33, 32, 64, 3, 1, 1},
           {2, 17, 15, 32, 7, 3, 1, 1},
           {1, 15, 18, 24, 136, 1, 1, 0},
           {2, 60, 300, 3, 16, 7, 2, 3},
       }) {
    for (const bool bias : {false, true}) {
      suite.add<Conv2d>(
          name_of(s) + (bias ? ", bias" : "") + ", pooled",
          [=](Builder& b) { return pooled(random_conv2d(b, s, bias, false, true)); }, limits_of(s));
    }
  }
  for (const int64_t outputs : {3, 64}) {
    const std::string to = " to " + std::to_string(outputs);
    suite.add<Conv2d>("NaN" + to, [=](Builder& b) { return special_conv2d(b, outputs, {NAN, 1, 1, NAN}); });
    suite.add<Conv2d>("infinities" + to, [=](Builder& b) {
      return special_conv2d(b, outputs, {INFINITY, -INFINITY, 1, INFINITY, -INFINITY});
    });
    suite.add<Conv2d>("relu of infinities" + to, [=](Builder& b) {
      Conv2d op = special_conv2d(b, outputs, {INFINITY, 1, 1, -INFINITY});
      op.relu = true;
      return op;
    });
    suite.add<Conv2d>("relu of infinities pooled" + to, [=](Builder& b) {
      Conv2d op = pooled(special_conv2d(b, outputs, {INFINITY, 1, 1, -INFINITY}));
      op.relu = true;
      return op;
    });
  }

  suite.refuses<Conv2d>(
      "channels that differ",
      [](Builder& b) {
        Conv2d op;
        op.x = {b.tensor({1, 4, 4, 3})};
        op.weight = {b.tensor({2, 5, 3, 3})};
        return op;
      },
      "weight [2, 5, 3, 3] takes 5 channels, and x [1, 4, 4, 3] has 3");
  suite.refuses<Conv2d>(
      "nothing to overwrite",
      [](Builder& b) {
        Conv2d op = random_conv2d(b, {1, 4, 4, 3, 3, 3, 1, 1}, false, false, false);
        op.overwrite = true;
        return op;
      },
      "there is no residual to overwrite");
  for (const bool relu : {false, true}) {
    suite.refuses<Conv2d>(
        relu ? "pooling with a residual" : "pooling without relu",
        [=](Builder& b) { return pooled(random_conv2d(b, {1, 4, 4, 3, 3, 3, 1, 1}, false, relu, relu)); },
        "it pools only with relu and without a residual");
  }
  suite.refuses<Conv2d>(
      "dtypes that differ",
      [](Builder& b) {
        Conv2d op;
        op.x = {b.tensor({1, 4, 4, 3})};
        op.weight = {b.zeros({2, 3, 3, 3}, DType::bfloat16)};
        return op;
      },
      "weight is bfloat16, x is float32");
  suite.refuses<Conv2d>(
      "a dtype for storage only",
      [](Builder& b) {
        Conv2d op;
        op.x = {b.zeros({1, 4, 4, 3}, DType::float16)};
        op.weight = {b.zeros({2, 3, 3, 3}, DType::float16)};
        return op;
      },
      "does not compute in float16");
  suite.refuses<Conv2d>(
      "an empty batch",
      [](Builder& b) {
        Conv2d op;
        op.x = {b.tensor({0, 4, 4, 3})};
        op.weight = {b.tensor({2, 3, 3, 3})};
        return op;
      },
      "x is empty: [0, 4, 4, 3]");
  suite.refuses<Conv2d>(
      "a kernel larger than x",
      [](Builder& b) { return random_conv2d(b, {1, 4, 6, 3, 2, 7, 1, 1}, false, false, false); },
      "x [1, 4, 6, 3] is smaller than the kernel of weight [2, 3, 7, 7]");
  suite.refuses<Conv2d>(
      "a stride of zero",
      [](Builder& b) { return random_conv2d(b, {1, 4, 4, 3, 2, 3, 0, 1}, false, false, false); },
      "stride 0 must be at least 1");
  suite.refuses<Conv2d>(
      "a negative padding",
      [](Builder& b) { return random_conv2d(b, {1, 4, 4, 3, 2, 3, 1, -1}, false, false, false); },
      "padding -1 at least 0");
  suite.refuses<Conv2d>(
      "a bias of another length",
      [](Builder& b) {
        Conv2d op = random_conv2d(b, {1, 4, 4, 3, 2, 3, 1, 1}, false, false, false);
        op.bias = {b.floats({3})};
        return op;
      },
      "bias must have shape [2], and has [3]");
  suite.refuses<Conv2d>(
      "a residual of another shape",
      [](Builder& b) {
        Conv2d op = random_conv2d(b, {1, 4, 4, 3, 2, 3, 1, 1}, false, false, false);
        op.residual = {b.tensor({1, 4, 4, 3})};
        return op;
      },
      "residual must have shape [1, 4, 4, 2], and has [1, 4, 4, 3]");
  suite.refuses<Conv2d>(
      "a residual of another dtype",
      [](Builder& b) {
        Conv2d op = random_conv2d(b, {1, 4, 4, 3, 2, 3, 1, 1}, false, false, false);
        op.residual = {b.zeros({1, 4, 4, 2}, DType::bfloat16)};
        return op;
      },
      "residual must be float32, and is bfloat16");

  // ResNet-50 at 508 px.
  struct Layer {
    Conv2dSizes sizes;
    bool residual;
  };
  const Layer layers[] = {
      {{1, 508, 508, 3, 64, 7, 2, 3}, false},   {{1, 127, 127, 64, 64, 1, 1, 0}, false},
      {{1, 127, 127, 64, 64, 3, 1, 1}, false},  {{1, 127, 127, 64, 256, 1, 1, 0}, true},
      {{1, 127, 127, 256, 64, 1, 1, 0}, false}, {{1, 127, 127, 128, 128, 3, 2, 1}, false},
      {{1, 64, 64, 128, 128, 3, 1, 1}, false},  {{1, 64, 64, 128, 512, 1, 1, 0}, true},
      {{1, 64, 64, 512, 1024, 1, 2, 0}, false}, {{1, 32, 32, 256, 256, 3, 1, 1}, false},
      {{1, 32, 32, 256, 1024, 1, 1, 0}, true},  {{1, 32, 32, 1024, 256, 1, 1, 0}, false},
      {{1, 16, 16, 512, 512, 3, 1, 1}, false},  {{1, 16, 16, 512, 2048, 1, 1, 0}, true},
      {{1, 16, 16, 2048, 512, 1, 1, 0}, false}, {{6, 16, 16, 512, 512, 3, 1, 1}, false},
  };
  for (const Layer& layer : layers) {
    suite.bench<Conv2d>(name_of(layer.sizes) + (layer.residual ? ", residual" : ""), [=](Builder& b) {
      return random_conv2d(b, layer.sizes, true, layer.residual, true);
    });
  }
  for (const int64_t batch : {1, 2}) {
    const Conv2dSizes stem{batch, 508, 508, 3, 64, 7, 2, 3};
    suite.bench<Conv2d>(name_of(stem) + ", pooled",
                        [=](Builder& b) { return pooled(random_conv2d(b, stem, true, false, true)); });
  }
  for (const Conv2dSizes& s : training_layers()) {
    suite.bench<Conv2d>(name_of(s) + ", training",
                        [=](Builder& b) { return random_conv2d(b, s, false, false, false); });
  }
  suite.bench<Conv2d>("classify 127x127x512 to 7", [](Builder& b) {
    return random_conv2d(b, {1, 127, 127, 512, 7, 3, 1, 1}, true, false, false);
  });
  suite.bench<Conv2d>("head's sum 127x127x63 to 7", [](Builder& b) {
    return random_conv2d(b, {1, 127, 127, 63, 7, 3, 1, 1}, true, false, false);
  });
  // A matrix product whose operands are read many times: what multiply-adds reach at best.
  suite.bench<Conv2d>("peak: 128x128x1024 to 1024, kernel 1", [](Builder& b) {
    return random_conv2d(b, {1, 128, 128, 1024, 1024, 1, 1, 0}, false, false, false);
  });
}

}  // namespace glnet::test
