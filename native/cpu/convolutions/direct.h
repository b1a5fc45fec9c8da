// Convolutions as matrix products of pixels by weights, with nothing copied but what has few channels: each
// pixel of y is a row whose elements lie where its taps are in x.
#pragma once

#include "cpu/convolution.h"
#include "cpu/convolutions/panel.h"

namespace glnet::cpu {

class DirectConvolution : public Convolution {
 public:
  explicit DirectConvolution(const ConvolutionSpec& spec);

  size_t packed_bytes() const override;
  size_t workspace_bytes() const override;
  void pack(const void* dense, void* packed) const override;
  void run(const void* x, const void* packed, const float* bias, const void* residual, void* y,
           void* workspace) const override;
  void run_rows(const void* x, const void* packed, void* workspace, const TakeRows& take) const override;

 private:
  struct Block;

  int64_t pointer_bytes() const;
  int64_t partial_bytes() const;
  int64_t thread_bytes() const;
  int64_t padded_height() const { return spec_.height + 2 * spec_.padding_height; }
  int64_t padded_width() const { return spec_.width + 2 * spec_.padding_width; }
  void copy(const std::byte* x, std::byte* to) const;
  void pack_columns(const std::byte* dense, int64_t first, std::byte* packed) const;
  void point(const Block& block, int64_t n, int64_t row, int64_t column, const void** pointers) const;
  /// Calls body(begin, end, scratch of the thread) for blocks of pixels of y.
  template <class Body>
  void for_blocks(Block& block, const void* x, void* workspace, const Body& body) const;
  void run_block(int64_t begin, int64_t end, const Block& block, std::byte* y, std::byte* scratch) const;

  int64_t element_, out_element_;  ///< bytes
  // With few channels, or an odd number in bfloat16, a tap is a row of the kernel, and x is copied with its
  // padding, pixels of an even number of elements there; else a tap is a pixel.
  bool copies_;
  int64_t pixel_;                         ///< elements of a pixel of what the taps read
  int64_t taps_, inner_;                  ///< of a pixel of y, and elements of a tap
  int64_t taps_at_once_, inner_at_once_;  ///< such that b of a panel stays in the cache
  Blocks blocks_;                         ///< of pixels of y, of whole rows if these are to be handed over
};

}  // namespace glnet::cpu
