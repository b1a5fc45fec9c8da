#pragma once

#include "test/harness.h"

namespace glnet::test {

inline TriangleResize make_triangle_resize(const View& x, const View& sum, int row, int image_height) {
  TriangleResize op;
  op.x = {x};
  op.sum = {sum};
  op.row = row;
  op.image_height = image_height;
  return op;
}

/// The whole image in one band; the sums before it hold anything.
inline TriangleResize make_whole_resize(Builder& b, int h, int w, int channels, int height, int width) {
  const View x = b.bytes({h, w, channels}), sum = b.zeros({height, width, channels}, DType::int32);
  for (int64_t i = 0; i < sum.size(); ++i) sum.as<int32_t>()[i] = b.integer(-2000000000, 2000000000);
  return make_triangle_resize(x, sum, 0, h);
}

/// Rows `first` to before `last` of an image.
inline View rows_of(const View& image, int first, int last) {
  const int64_t row = image.dim(1) * image.dim(2);
  return {
      image.as<uint8_t>() + first * row, {last - first, image.dim(1), image.dim(2)}, DType::uint8, nullptr};
}

/// A 32-bit FNV-1a hash.
inline uint32_t hash_of(const View& bytes) {
  uint32_t hash = 2166136261u;
  for (int64_t i = 0; i < bytes.size(); ++i) hash = (hash ^ bytes.as<uint8_t>()[i]) * 16777619u;
  return hash;
}

/// Byte i is the upper byte of i * 2654435761: an image that any language can rebuild.
inline View formula_image(Builder& b, int h, int w, int channels) {
  const View x = b.zeros({h, w, channels}, DType::uint8);
  for (int64_t i = 0; i < x.size(); ++i) {
    x.as<uint8_t>()[i] = static_cast<uint8_t>(static_cast<uint32_t>(i) * 2654435761u >> 24);
  }
  return x;
}

inline void triangle_resize_cases(Suite& suite) {
  const Limits limits{.bfloat16 = false};
  struct Sizes {
    int h, w, height, width;
  };
  const std::vector<Sizes> sizes{{1, 1, 1, 1},   {1, 1, 3, 5},      {31, 33, 31, 33}, {31, 33, 1, 1},
                                 {31, 1, 7, 4},  {97, 131, 31, 33}, {13, 7, 67, 61},  {33, 31, 61, 5},
                                 {67, 5, 3, 40}, {128, 96, 32, 24}};
  for (const int channels : {1, 3, 4}) {
    for (const Sizes& s : sizes) {
      std::ostringstream name;
      name << s.h << " x " << s.w << " x " << channels << " to " << s.height << " x " << s.width;
      suite.add<TriangleResize>(
          name.str(), [=](Builder& b) { return make_whole_resize(b, s.h, s.w, channels, s.height, s.width); },
          limits);
    }
  }
  suite.add<TriangleResize>(
      "white",
      [](Builder& b) {
        TriangleResize op = make_whole_resize(b, 61, 67, 3, 7, 11);
        std::memset(op.x.data, 255, op.x.bytes());
        return op;
      },
      limits);
  for (const auto& [first, last] : {std::pair{0, 1}, {1, 2}, {30, 61}, {96, 97}, {60, 97}}) {
    for (const int height : {13, 131}) {
      suite.add<TriangleResize>(
          "rows " + std::to_string(first) + " to " + std::to_string(last) + " of 97, to " +
              std::to_string(height),
          [=, first = first, last = last](Builder& b) {
            TriangleResize op = make_whole_resize(b, 97, 31, 3, height, 17);
            const View image = op.x;
            if (first) {
              op.x = {rows_of(image, 0, first)};
              op.sum = evaluated(op, b, false).sum;
            }
            op.x = {rows_of(image, first, last)};
            op.row = first;
            return op;
          },
          limits);
    }
  }
  for (const int band : {1, 2, 7, 64, 96}) {
    for (const int height : {13, 131}) {
      suite.direct("triangle_resize",
                   "in bands of " + std::to_string(band) + ", to " + std::to_string(height),
                   [=](Device& device) {
                     Builder b(DType::float32, 1);
                     TriangleResize op = make_whole_resize(b, 97, 31, 3, height, 17);
                     const View image = op.x;
                     const auto whole = run_device(op, b, device);
                     std::vector<Output> parts;
                     for (int row = 0; row < 97; row += band) {
                       op.x = {rows_of(image, row, std::min(row + band, 97))};
                       op.row = row;
                       parts = run_device(op, b, device);
                       op.sum = {parts[0].view};
                     }
                     for (size_t i = 0; i < 2; ++i) {
                       if (std::memcmp(whole[i].view.data, parts[i].view.data, whole[i].view.bytes())) {
                         return whole[i].name + " is not that of one band";
                       }
                     }
                     return std::string();
                   });
    }
  }
  struct Known {
    Sizes s;
    int channels;
    uint32_t hash;
  };
  // The same from Pillow 9, 10 and 11.
  for (const Known& k :
       {Known{{372, 496, 124, 124}, 3, 0x946fc269u}, Known{{31, 17, 7, 5}, 1, 0x3faba1e9u},
        Known{{5, 5, 13, 11}, 3, 0x99b7cc66u}, Known{{1, 1, 3, 2}, 3, 0x9f96cf25u},
        Known{{97, 131, 33, 31}, 4, 0x89fd260bu}, Known{{2, 300, 200, 3}, 1, 0x079f49e5u},
        Known{{2448, 2448, 508, 508}, 3, 0xc8a2bc8du}, Known{{1000, 731, 508, 508}, 3, 0x1fbf11c3u},
        Known{{3001, 61, 17, 64}, 3, 0x01ff652fu}, Known{{1237, 2311, 508, 508}, 1, 0x8b9053fdu}}) {
    std::ostringstream name;
    name << "Pillow's " << k.s.h << " x " << k.s.w << " x " << k.channels << " to " << k.s.height << " x "
         << k.s.width;
    suite.direct("triangle_resize", name.str(), [=](Device& device) {
      Builder b(DType::float32, 1);
      const View image = formula_image(b, k.s.h, k.s.w, k.channels);
      const View sum = b.zeros({k.s.height, k.s.width, k.channels}, DType::int32);
      const auto outputs = run_device(make_triangle_resize(image, sum, 0, k.s.h), b, device);
      return hash_of(outputs[1].view) == k.hash ? "" : "the pixels are not those of Pillow";
    });
  }

  const auto refuses = [&](const std::string& name, const std::string& expected,
                           std::function<void(Builder&, TriangleResize&)> spoil) {
    suite.refuses<TriangleResize>(
        name, [](Builder& b) { return make_whole_resize(b, 9, 7, 3, 4, 5); }, spoil, expected);
  };
  refuses("pixels of another rank", "x must have 3 dimensions",
          [](Builder& b, auto& op) { op.x = {b.bytes({9, 7})}; });
  refuses("sums of another rank", "sum must have 3 dimensions",
          [](Builder& b, auto& op) { op.sum = {b.zeros({4, 5}, DType::int32)}; });
  refuses("pixels that are not bytes", "x must be uint8, and is float32",
          [](Builder& b, auto& op) { op.x = {b.floats({9, 7, 3})}; });
  refuses("sums that are not int32", "sum must be int32, and is float32",
          [](Builder& b, auto& op) { op.sum = {b.floats({4, 5, 3})}; });
  refuses("other channels", "x [9, 7, 1] and sum [4, 5, 3] differ in channels",
          [](Builder& b, auto& op) { op.x = {b.bytes({9, 7, 1})}; });
  refuses("a negative row", "the band of 9 rows from row -1 leaves", [](Builder&, auto& op) { op.row = -1; });
  refuses("rows past the image", "the band of 9 rows from row 1 leaves the image of 9 rows",
          [](Builder&, auto& op) { op.row = 1; });
  suite.bench<TriangleResize>("2448x2448x3 to 508x508",
                              [](Builder& b) { return make_whole_resize(b, 2448, 2448, 3, 508, 508); });
  suite.bench<TriangleResize>("a band of 256 of 2448 rows to 508x508", [](Builder& b) {
    TriangleResize op = make_whole_resize(b, 256, 2448, 3, 508, 508);
    op.row = 1024;
    op.image_height = 2448;
    return op;
  });
}

}  // namespace glnet::test
