// Large kernels to few outputs as a grid of 3 x 3 kernels, each by Winograd's F(3 x 3, 3 x 3): tiles of 3 x 3
// pixels lie as the parts of the kernel do, so that a tile of x is transformed once for all of them. A pixel
// of a 9 x 9 kernel takes 25 products instead of 81, with the rounding errors of winograd.h.
#pragma once

#include "cpu/convolution.h"

namespace glnet::cpu {

class NestedWinograd : public Convolution {
 public:
  /// Whether it can, and it pays.
  static bool suits(const ConvolutionSpec& spec);
  static double cost(const ConvolutionSpec& spec);

  explicit NestedWinograd(const ConvolutionSpec& spec);

  size_t packed_bytes() const override;
  size_t workspace_bytes() const override;
  void pack(const void* dense, void* packed) const override;
  void run(const void* x, const void* packed, const float* bias, const void* residual, void* y,
           void* workspace) const override;
  void run_rows(const void* x, const void* packed, void* workspace, const TakeRows& take) const override;

 private:
  struct Maps;

  int64_t input_bytes() const;
  int64_t ring_bytes() const;
  int64_t thread_bytes() const;
  template <class T>
  void multiply_row(const Maps& maps, int64_t map, int64_t row, T* in, float* products) const;
  void run_block(const Maps& maps, int64_t map, int64_t begin, int64_t end, std::byte* scratch,
                 const TakeRows& take) const;

  int64_t element_;        ///< bytes
  int64_t parts_;          ///< of the kernel along a side
  int64_t columns_;        ///< of a matrix of products: the outputs of all parts
  int64_t across_, down_;  ///< tiles of a map of y
  int64_t blocks_;         ///< of rows of tiles, of each map
};

}  // namespace glnet::cpu
