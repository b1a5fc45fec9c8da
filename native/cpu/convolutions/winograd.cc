#include "cpu/convolutions/winograd.h"

#include <omp.h>

#include <cstring>

#include "cpu/convolutions/code.h"
#include "cpu/convolutions/forms.h"
#include "cpu/convolutions/panel.h"
#include "cpu/convolutions/winograd_tiles.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

/// Pixels of y below which products of pixels are faster: the transformed weights take longer to read.
constexpr int64_t kFewestPixels = 400;
/// Of a block's transformed tiles.
constexpr int64_t kBlockBytes = 512 << 10;
/// Transformed weights for each pixel of y: with more, larger tiles save little time, since the weights take
/// longer to read, and cost much memory.
constexpr int64_t kMostWeights = 4096;

/// Of a tile of y. In bfloat16 the errors of tiles of 4 would be larger by half than those of 3.
int64_t side_of(const ConvolutionSpec& spec) {
  const int64_t side = spec.input == DType::float32 ? F4::kSide : F3::kSide,
                products = (side + 2) * (side + 2);
  const bool pays = products * spec.channels * spec.outputs <= kMostWeights * spec.output_pixels();
  return pays ? side : F2::kSide;
}

}  // namespace

/// What all blocks share.
struct Winograd::Maps {
  const void* x = nullptr;
  const void* zeros = nullptr;
  const void* packed = nullptr;
  const float* bias = nullptr;
  const void* addend = nullptr;
  void* y = nullptr;
};

bool Winograd::suits(const ConvolutionSpec& spec) {
  const bool narrow = spec.input == DType::bfloat16;
  return spec.kernel_height == 3 && spec.kernel_width == 3 && spec.stride == 1 &&
         spec.channels % (narrow ? 32 : 16) == 0 && spec.outputs >= 16 &&
         spec.output_pixels() >= kFewestPixels;
}

Winograd::Winograd(const ConvolutionSpec& spec)
    : Convolution(spec),
      element_(static_cast<int64_t>(size_of(spec.input))),
      side_(side_of(spec)),
      products_((side_ + 2) * (side_ + 2)),
      across_(divide_up(spec.output_width(), side_)),
      down_(divide_up(spec.output_height(), side_)),
      blocks_(spec.batch * across_ * down_,
              std::max<int64_t>(kBlockBytes / (products_ * spec.channels * element_), 4 * kTileRows),
              spec.by_rows ? across_ : 0, spec.threads) {
  layout_ = "winograd, tiles of " + std::to_string(side_);
}

size_t Winograd::packed_bytes() const {
  return static_cast<size_t>(products_ * spec_.channels * divide_up(spec_.outputs, 16) * 16 * element_);
}

int64_t Winograd::input_bytes() const {
  return align(products_ * next_product(blocks_.largest() * spec_.channels, element_) * element_);
}

int64_t Winograd::output_bytes() const {
  return align(products_ * next_product(blocks_.largest() * kPanelColumns, 4) * 4);
}

/// Of a thread: transformed tiles, their products by a panel, and all rows of y if these are to be handed
/// over.
int64_t Winograd::thread_bytes() const {
  const int64_t rows = spec_.by_rows ? blocks_.largest() / across_ * side_ : 0;
  return input_bytes() + output_bytes() + align(4 * rows * spec_.output_width() * spec_.outputs);
}

size_t Winograd::workspace_bytes() const {
  return static_cast<size_t>(align(spec_.channels * element_) + spec_.threads * thread_bytes());
}

/// Calls body<the form of the tiles, the type of x>().
template <class Body>
void Winograd::with_types(const Body& body) const {
  const bool narrow = spec_.input == DType::bfloat16;
  if (side_ == F4::kSide) {
    body.template operator()<F4, float>();
  } else if (side_ == F3::kSide) {
    body.template operator()<F3, bfloat16>();
  } else if (narrow) {
    body.template operator()<F2, bfloat16>();
  } else {
    body.template operator()<F2, float>();
  }
}

void Winograd::pack(const void* dense, void* packed) const {
  with_types([&]<class F, class T>() {
    pack_kernels<F>(spec_.channels, spec_.outputs, static_cast<T*>(packed),
                    [&](int64_t k, int64_t c, int64_t row, int64_t column) {
                      return static_cast<const T*>(dense)[((k * spec_.channels + c) * 3 + row) * 3 + column];
                    });
  });
}

template <class Body>
void Winograd::for_blocks(Maps& maps, void* workspace, const Body& body) const {
  auto* zeros = static_cast<std::byte*>(workspace);
  const int64_t zero_bytes = align(spec_.channels * element_);
  std::memset(zeros, 0, static_cast<size_t>(zero_bytes));
  maps.zeros = zeros;
  parallel_for(spec_.threads, blocks_.count, [&](int64_t i) {
    std::byte* scratch = zeros + zero_bytes + omp_get_thread_num() * thread_bytes();
    body(blocks_.begin(i), blocks_.begin(i + 1), scratch,
         reinterpret_cast<float*>(scratch + input_bytes() + output_bytes()));
  });
}

void Winograd::run(const void* x, const void* packed, const float* bias, const void* residual, void* y,
                   void* workspace) const {
  Maps maps;
  maps.x = x, maps.packed = packed, maps.y = y;
  maps.bias = spec_.bias ? bias : nullptr;
  maps.addend = spec_.accumulate ? y : spec_.residual ? residual : nullptr;
  for_blocks(maps, workspace, [&](int64_t begin, int64_t end, std::byte* scratch, float*) {
    with_types([&]<class F, class T>() {
      if (spec_.output == DType::float32) {
        run_block<F, T, float>(maps, begin, end, scratch, nullptr);
      } else {
        run_block<F, T, bfloat16>(maps, begin, end, scratch, nullptr);
      }
    });
  });
}

void Winograd::run_rows(const void* x, const void* packed, void* workspace, const TakeRows& take) const {
  Maps maps;
  maps.x = x, maps.packed = packed;
  for_blocks(maps, workspace, [&](int64_t begin, int64_t end, std::byte* scratch, float* rows) {
    with_types([&]<class F, class T>() { run_block<F, T, float>(maps, begin, end, scratch, rows); });
    const int64_t height = spec_.output_height();
    for (int64_t line = begin / across_; line < end / across_; ++line) {
      const int64_t top = line % down_ * side_, first = line / down_ * height + top;
      take(first, first + std::min(side_, height - top),
           rows + (line - begin / across_) * side_ * spec_.output_width() * spec_.outputs);
    }
  });
}

/// Tiles `begin` to before `end`, whole rows of them to `rows` where that is not nullptr.
template <class F, class T, class Y>
void Winograd::run_block(const Maps& maps, int64_t begin, int64_t end, std::byte* scratch,
                         float* rows) const {
  constexpr int64_t kN = F::kSide + 2;
  const int64_t count = end - begin, channels = spec_.channels, outputs = spec_.outputs;
  const int64_t height = spec_.output_height(), width = spec_.output_width();
  const int64_t next_in = next_product(blocks_.largest() * channels, element_),
                next_out = next_product(blocks_.largest() * kPanelColumns, 4);
  auto* in = reinterpret_cast<T*>(scratch);
  auto* out = reinterpret_cast<float*>(scratch + input_bytes());
  const auto* x = static_cast<const T*>(maps.x);
  const Code& code = Code::of(spec_.input);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t tile = begin + i, map = tile / (across_ * down_);
    const int64_t top = tile / across_ % down_ * side_ - spec_.padding_height,
                  left = tile % across_ * side_ - spec_.padding_width;
    const T* from[kN * kN];
    point_tile<kN>(spec_, x, static_cast<const T*>(maps.zeros), map, top, left, from);
    code.with<T>().input[F::kSide - 2](from, channels, in + i * channels, next_in);
  }

  const auto* b = static_cast<const T*>(maps.packed);
  for (int64_t column = 0; column < outputs; column += kPanelColumns) {
    const int64_t panel = panel_columns(outputs, column);
    for (int64_t p = 0; p < kN * kN; ++p, b += channels * panel)
      multiply_panel(spec_.input, count, panel, channels, in + p * next_in, channels, b, out + p * next_out,
                     kPanelColumns);
    Finish<Y> finish;
    finish.columns = std::min(kPanelColumns, outputs - column);
    finish.bias = maps.bias ? maps.bias + column : nullptr;
    finish.relu = spec_.relu;
    finish.next_row = width * outputs, finish.next_pixel = outputs;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t tile = begin + i, map = tile / (across_ * down_);
      const int64_t top = tile / across_ % down_ * side_, left = tile % across_ * side_;
      const int64_t line = rows ? (i / across_) * side_ : map * height + top;
      const int64_t at = (line * width + left) * outputs + column;
      finish.height = height - top, finish.width = width - left;
      finish.addend = maps.addend ? static_cast<const Y*>(maps.addend) + at : nullptr;
      finish.y = (rows ? reinterpret_cast<Y*>(rows) : static_cast<Y*>(maps.y)) + at;
      code.with<Y>().output[F::kSide - 2](out + i * kPanelColumns, next_out, finish);
    }
  }
}

}  // namespace glnet::cpu
