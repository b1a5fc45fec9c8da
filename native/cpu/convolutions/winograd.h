// Winograd's algorithm (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section 4)
// for 3 x 3 kernels of stride 1: in float32 F(4 x 4, 3 x 3), 36 products for 16 pixels instead of 144, with
// rounding errors of about 1e-6 of the largest value; in bfloat16 F(3 x 3, 3 x 3), 25 for 9 instead of 81:
// what is multiplied is rounded, which costs 0.6 to 0.7 per cent of a map's spread on random maps, and
// nothing to be seen in the labels and confidences of real images; where weights are many, F(2 x 2, 3 x 3),
// 16 for 4 instead of 36.
#pragma once

#include "cpu/convolution.h"
#include "cpu/convolutions/panel.h"

namespace glnet::cpu {

class Winograd : public Convolution {
 public:
  /// Whether it can, and is faster than products of pixels.
  static bool suits(const ConvolutionSpec& spec);

  explicit Winograd(const ConvolutionSpec& spec);

  size_t packed_bytes() const override;
  size_t workspace_bytes() const override;
  void pack(const void* dense, void* packed) const override;
  void run(const void* x, const void* packed, const float* bias, const void* residual, void* y,
           void* workspace) const override;
  void run_rows(const void* x, const void* packed, void* workspace, const TakeRows& take) const override;

 private:
  struct Maps;

  template <class Body>
  void with_types(const Body& body) const;
  template <class Body>
  void for_blocks(Maps& maps, void* workspace, const Body& body) const;

  int64_t input_bytes() const;
  int64_t output_bytes() const;
  int64_t thread_bytes() const;
  template <class F, class T, class Y>
  void run_block(const Maps& maps, int64_t begin, int64_t end, std::byte* scratch, float* rows) const;

  int64_t element_;          ///< bytes
  int64_t side_, products_;  ///< of a tile of y; of a tile and a pair of channels
  int64_t across_, down_;    ///< tiles of a map
  Blocks blocks_;            ///< of tiles, of whole rows of them if rows are to be handed over
};

}  // namespace glnet::cpu
