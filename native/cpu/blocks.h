// Maps in blocks of 16 channels, [N, C / 16, pixels, 16], as oneDNN's Winograd convolutions want them.
#pragma once

#include <cstdint>

namespace glnet::cpu {

/// x: [maps, pixels, channels], channels a multiple of 16; y: [maps, channels / 16, pixels, 16].
void block_channels(int threads, const float* x, int64_t maps, int64_t pixels, int64_t channels, float* y);

/// The way back: y = relu(x + addend). `addend` may be y or nullptr.
void unblock_channels(int threads, const float* x, int64_t maps, int64_t pixels, int64_t channels,
                      const float* addend, bool relu, float* y);

}  // namespace glnet::cpu
