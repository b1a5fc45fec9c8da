// Maps in blocks of 16 channels, [N, C / 16, rows, width, 16], as oneDNN's Winograd convolutions want them.
#pragma once

#include <cstdint>

namespace glnet::cpu {

/// Rows `first` to before `first + rows` of maps [N, height, width, channels], of `channels` a multiple
/// of 16.
struct BlockedRows {
  int64_t maps, height, width, channels;
  int64_t first, rows;
};

/// y: the rows in blocks; those that the maps do not have are zero.
void block_channels(int threads, const float* x, const BlockedRows& b, float* y);

/// The way back, into rows of y that are there: y = relu(x + addend). `addend` is nullptr or as y, and may be
/// y.
void unblock_channels(int threads, const float* x, const BlockedRows& b, const float* addend, bool relu,
                      float* y);

}  // namespace glnet::cpu
