#include "cpu/convolutions/nested_winograd.h"

#include <omp.h>

#include <cstring>

#include "cpu/convolutions/code.h"
#include "cpu/convolutions/forms.h"
#include "cpu/convolutions/panel.h"
#include "cpu/convolutions/winograd_tiles.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

constexpr int64_t kSide = F3::kSide, kN = kSide + 2, kProducts = kN * kN;
constexpr int64_t kTilesAtOnce = 24;    ///< whose transforms stay in the cache
constexpr int64_t kMostParts = 3;       ///< of a kernel along a side: of 9 x 9
constexpr int64_t kMostRing = 8 << 20;  ///< bytes of products of a thread

}  // namespace

/// What all blocks share.
struct NestedWinograd::Maps {
  const std::byte* x;
  const std::byte* zeros;
  const std::byte* packed;
};

bool NestedWinograd::suits(const ConvolutionSpec& spec) {
  const int64_t parts = spec.kernel_height / kSide;
  const int64_t ring = 4 * parts * kProducts * (spec.width / kSide + parts) * parts * parts * spec.outputs;
  return spec.kernel_height == spec.kernel_width && spec.kernel_height == parts * kSide && parts > 1 &&
         parts <= kMostParts && spec.stride == 1 && spec.channels % 32 == 0 &&
         spec.outputs <= kPanelColumns && ring <= kMostRing;
}

double NestedWinograd::cost(const ConvolutionSpec& spec) {
  constexpr double kTransform = 15;  // of a product
  const int64_t parts = spec.kernel_height / kSide,
                columns = divide_up(parts * parts * spec.outputs, 16) * 16;
  return (static_cast<double>(columns) + kTransform) * kProducts / (kSide * kSide);
}

NestedWinograd::NestedWinograd(const ConvolutionSpec& spec)
    : Convolution(spec),
      element_(static_cast<int64_t>(size_of(spec.input))),
      parts_(spec.kernel_height / kSide),
      columns_(divide_up(parts_ * parts_ * spec.outputs, 16) * 16),
      across_(divide_up(spec.output_width(), kSide)),
      down_(divide_up(spec.output_height(), kSide)),
      blocks_(std::min(divide_up(spec.threads, spec.batch), down_)) {
  layout_ = "nested winograd";
}

size_t NestedWinograd::packed_bytes() const {
  return static_cast<size_t>(kProducts * spec_.channels * columns_ * element_);
}

int64_t NestedWinograd::input_bytes() const {
  return align(kProducts * next_product(kTilesAtOnce * spec_.channels, element_) * element_);
}

/// The products of the rows of tiles that a row of y reads.
int64_t NestedWinograd::ring_bytes() const {
  return align(4 * parts_ * kProducts * next_product((across_ + parts_ - 1) * columns_, 4));
}

int64_t NestedWinograd::thread_bytes() const {
  return input_bytes() + ring_bytes() + align(4 * kSide * spec_.output_width() * spec_.outputs);
}

size_t NestedWinograd::workspace_bytes() const {
  return static_cast<size_t>(align(spec_.channels * element_) + spec_.threads * thread_bytes());
}

void NestedWinograd::pack(const void* dense, void* packed) const {
  const int64_t kernel = spec_.kernel_height, outputs = spec_.outputs;
  with_type("conv2d", spec_.input, [&](auto t) {
    using T = decltype(t);
    pack_kernels<F3>(
        spec_.channels, parts_ * parts_ * outputs, static_cast<T*>(packed),
        [&](int64_t column, int64_t c, int64_t y, int64_t x) {
          const int64_t part = column / outputs, k = column % outputs;
          const int64_t row = part / parts_ * kSide + y, at = part % parts_ * kSide + x;
          return static_cast<const T*>(dense)[((k * spec_.channels + c) * kernel + row) * kernel + at];
        });
  });
}

void NestedWinograd::run(const void* x, const void* packed, const float* bias, const void* residual, void* y,
                         void* workspace) const {
  const int64_t row = spec_.output_width() * spec_.outputs;
  const void* addend = spec_.accumulate ? y : spec_.residual ? residual : nullptr;
  with_type("conv2d", spec_.output, [&](auto t) {
    using Y = decltype(t);
    run_rows(x, packed, workspace, [&](int64_t begin, int64_t end, const float* sums) {
      for (int64_t i = begin * row; i < end * row; ++i) {
        float v = sums[i - begin * row];
        if (spec_.bias) v += bias[i % spec_.outputs];
        if (addend) v += static_cast<float>(static_cast<const Y*>(addend)[i]);
        if (spec_.relu && v < 0) v = 0;
        static_cast<Y*>(y)[i] = Y(v);
      }
    });
  });
}

void NestedWinograd::run_rows(const void* x, const void* packed, void* workspace,
                              const TakeRows& take) const {
  auto* zeros = static_cast<std::byte*>(workspace);
  std::memset(zeros, 0, static_cast<size_t>(spec_.channels * element_));
  const Maps maps{static_cast<const std::byte*>(x), zeros, static_cast<const std::byte*>(packed)};
  std::byte* scratch = zeros + align(spec_.channels * element_);
  parallel_for(spec_.threads, spec_.batch * blocks_, [&](int64_t i) {
    const int64_t block = i % blocks_;
    run_block(maps, i / blocks_, down_ * block / blocks_, down_ * (block + 1) / blocks_,
              scratch + omp_get_thread_num() * thread_bytes(), take);
  });
}

/// Rows of tiles `begin` to before `end` of map `map`.
void NestedWinograd::run_block(const Maps& maps, int64_t map, int64_t begin, int64_t end, std::byte* scratch,
                               const TakeRows& take) const {
  const int64_t next = next_product((across_ + parts_ - 1) * columns_, 4);
  auto* ring = reinterpret_cast<float*>(scratch + input_bytes());
  auto* rows = reinterpret_cast<float*>(scratch + input_bytes() + ring_bytes());
  const auto products_of = [&](int64_t row) { return ring + row % parts_ * kProducts * next; };
  const float* parts[kMostParts];
  for (int64_t row = begin; row < end + parts_ - 1; ++row) {
    with_type("conv2d", spec_.input, [&](auto t) {
      multiply_row(maps, map, row, reinterpret_cast<decltype(t)*>(scratch), products_of(row));
    });
    const int64_t tile = row - parts_ + 1, top = tile * kSide;
    if (tile < begin) continue;
    for (int64_t a = 0; a < parts_; ++a) parts[a] = products_of(tile + a);
    Code::of(spec_.input)
        .sum_parts(parts, parts_, across_, next, columns_, spec_.outputs, spec_.output_width(), rows);
    const int64_t first = map * spec_.output_height() + top;
    take(first, first + std::min(kSide, spec_.output_height() - top), rows);
  }
}

/// The products of row `row` of the tiles of x.
template <class T>
void NestedWinograd::multiply_row(const Maps& maps, int64_t map, int64_t row, T* in, float* products) const {
  const int64_t channels = spec_.channels, tiles = across_ + parts_ - 1;
  const int64_t next_in = next_product(kTilesAtOnce * channels, element_),
                next_out = next_product(tiles * columns_, 4);
  const auto* x = reinterpret_cast<const T*>(maps.x);
  const Code& code = Code::of(spec_.input);
  const int64_t top = row * kSide - spec_.padding_height, chunks = divide_up(tiles, kTilesAtOnce);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t begin = tiles * chunk / chunks, end = tiles * (chunk + 1) / chunks, count = end - begin;
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t left = tile * kSide - spec_.padding_width;
      const T* from[kProducts];
      point_tile<kN>(spec_, x, reinterpret_cast<const T*>(maps.zeros), map, top, left, from);
      code.with<T>().input[F3::kSide - 2](from, channels, in + (tile - begin) * channels, next_in);
    }
    const auto* b = reinterpret_cast<const T*>(maps.packed);
    const int64_t all = parts_ * parts_ * spec_.outputs;
    for (int64_t column = 0; column < all; column += kPanelColumns) {
      const int64_t panel = panel_columns(all, column);
      for (int64_t p = 0; p < kProducts; ++p, b += channels * panel)
        multiply_panel(spec_.input, count, panel, channels, in + p * next_in, channels, b,
                       products + p * next_out + begin * columns_ + column, columns_);
    }
  }
}

}  // namespace glnet::cpu
