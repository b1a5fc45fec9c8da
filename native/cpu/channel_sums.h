// Sums over the pixels of a map, for each channel.
//
// The pixels are cut into blocks, whose size depends on the map's shape alone; the sums of each block,
// double, lie in the workspace and are added in the blocks' order: the same bits for any number of threads.
#pragma once

#include "core/backend.h"
#include "cpu/parallel.h"

namespace glnet::cpu {

struct ChannelSums {
  int64_t pixels, channels;
  int sums;                     ///< for each channel
  double* workspace = nullptr;  ///< [blocks, sums, channels]

  /// Channels that are summed together: their sums stay in the L1 cache.
  static constexpr int64_t kLanes = 256;

  /// Pixels of a block: 256 KB, which stay in the L2 cache for another look, or 64 pixels, beside which the
  /// sums are small.
  int64_t block() const { return std::max<int64_t>(64, 65536 / channels); }
  int64_t blocks() const { return (pixels + block() - 1) / block(); }
  /// The pixels in a block.
  int64_t pixels_of(int64_t index) const { return std::min(block(), pixels - index * block()); }
  double* sums_of(int64_t index) const { return workspace + index * sums * channels; }

  size_t bytes() const { return static_cast<size_t>(blocks() * sums * channels) * sizeof(double); }

  /// Calls `body(first, pixels, sums)` for each block.
  template <class Body>
  void each_block(int threads, Body&& body) const {
    parallel_for(threads, blocks(),
                 [&](int64_t index) { body(index * block(), pixels_of(index), sums_of(index)); });
  }
  /// Calls `body(first, pixels)` for each block, from the end: what `each_block` read last may still be in
  /// the caches.
  template <class Body>
  void each_block_back(int threads, Body&& body) const {
    parallel_for(threads, blocks(), [&](int64_t i) {
      const int64_t index = blocks() - 1 - i;
      body(index * block(), pixels_of(index));
    });
  }
  /// The sums of all blocks, [sums, channels].
  std::vector<double> totals() const {
    std::vector<double> all(static_cast<size_t>(sums * channels));
    for (int64_t i = 0; i < blocks(); ++i) {
      const double* some = sums_of(i);
      for (size_t j = 0; j < all.size(); ++j) all[j] += some[j];
    }
    return all;
  }
};

}  // namespace glnet::cpu
