// Neighbouring channels moved at once, and how the threads of a block share the pixels of a map.
//
// A warp keeps as many bytes under way as its loads are wide: 16 bytes a thread where every pixel begins
// aligned to them, or else single elements. A tile is a group of neighbouring pixels of a row, as many as
// have a thread for each of their packs of channels, so that a block's threads know their pixel and channels
// from one division, and small maps of many channels are still spread over many blocks.
#pragma once

#include <type_traits>

#include "cuda/common.cuh"

namespace glnet::cuda {

/// Neighbouring channels, moved at once.
template <class T, int kLanes>
struct alignas(kLanes * sizeof(T)) Lanes {
  T v[kLanes];
};

template <class T, int kLanes>
__device__ __forceinline__ Lanes<T, kLanes> read_lanes(const T* from) {
  return *reinterpret_cast<const Lanes<T, kLanes>*>(from);
}

template <class T, int kLanes>
__device__ __forceinline__ void write_lanes(T* to, const float (&values)[kLanes]) {
  Lanes<T, kLanes> lanes;
  UNROLL
  for (int i = 0; i < kLanes; ++i) lanes.v[i] = T(values[i]);
  *reinterpret_cast<Lanes<T, kLanes>*>(to) = lanes;
}

/// Calls `body` with an integral_constant: kWide where so many divide the channels, or else 1.
template <int kWide, class Body>
void with_lanes(int64_t channels, Body&& body) {
  if (channels % kWide == 0) return body(std::integral_constant<int, kWide>{});
  body(std::integral_constant<int, 1>{});
}

/// Of T in 16 bytes.
template <class T>
constexpr int kWideLanes = 16 / static_cast<int>(sizeof(T));

/// Pixels of a tile, of `packs` packs of channels each.
constexpr int tile_pixels(int packs) {
  return packs < kThreads ? kThreads / packs : 1;
}

/// Tiles of a row.
constexpr int row_tiles(int width, int packs) {
  return (width + tile_pixels(packs) - 1) / tile_pixels(packs);
}

/// What a thread does of each tile: packs `first`, `first` + kThreads ... of a pixel.
struct TileShare {
  int pixels;        ///< of a tile
  int pixel, first;  ///< `pixel` is `pixels` or more for threads that are left over

  __device__ explicit TileShare(int packs)
      : pixels(tile_pixels(packs)),
        pixel(static_cast<int>(threadIdx.x) / packs),
        first(static_cast<int>(threadIdx.x) % packs) {}
};

/// Blocks for kernels that loop over tiles.
inline unsigned blocks_for_tiles(int64_t rows, int width, int packs) {
  const int64_t tiles = rows * row_tiles(width, packs);
  check(tiles <= INT32_MAX / 2, "CUDA takes maps of at most 2^30 tiles of pixels, and there are ", tiles);
  return static_cast<unsigned>(std::min(tiles, kMostBlocks));
}

}  // namespace glnet::cuda
