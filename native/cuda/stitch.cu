// stitch: logits of patches to labels and confidence at full resolution: upsampled by nearest neighbour,
// summed where patches overlap, then argmax and softmax.
//
// Threads: a block takes a piece of a row of the image, a thread a pixel, whose sums are the thread's column
// of shared memory: threads of a warp hit different banks, and no barrier is needed. Which patches meet the
// band is found on the host and written to the workspace by small launches; a block picks those that meet its
// piece, in their order, by ballots, as many at a time as it has threads. So a pixel looks only at patches
// that lie near it, and each sum is taken in the order of sources and patches. Blocks have as many threads,
// up to 256, as have room for their sums in 40 KB: 32 with 256 classes.
//
// Moves the logits in once, then reads them from the L2 cache, since 16 pixels share a cell, and two bytes a
// pixel out. Floor, for 2448 x 2448 x 7 from 36 patches of 127 x 127 in float32, 16 MB in and 12 MB out: 8.4
// us on an H100 (3.35 TB/s), 28 us on an RTX 4090 (1.01 TB/s). 42 million exponentials, at 16 a cycle and
// multiprocessor, take 12 us there and 8 us here.
// Considered: sums once a cell and not once a pixel, as on the CPU. Cells of overlapping patches do not
// align, and pixels of one cell read it in one access of the warp. A pixel reads
// eight classes before it adds the first, so that their latencies overlap.
#include <vector>

#include "cuda/common.cuh"

namespace glnet::cuda {
namespace {

/// The rows or the columns of the image as a patch sees them.
struct Axis {
  int begin, end;         ///< the pixels of the image on which the patch lies
  int64_t origin;         ///< pixel p is the patch's pixel step * (p - origin)
  int step;               ///< 1 or -1
  int64_t cells, extent;  ///< of the logits, in cells and in pixels
  int64_t stride;         ///< elements from cell to cell

  /// From the patch's first logit to the cell of a pixel.
  __device__ int64_t offset(int pixel) const {
    // Without a sign, nvcc divides 32 bits where both numbers fit them.
    const auto scaled = static_cast<uint64_t>(step * (pixel - origin) * cells);
    return static_cast<int64_t>(scaled / static_cast<uint64_t>(extent)) * stride;
  }
};

struct Patch {
  const void* logits;
  Axis rows, columns;
};

/// What one launch writes to the table of patches.
constexpr size_t kMostPatches = std::min<size_t>(kMostCorners, 24);
struct Patches {
  Patch patches[kMostPatches];
};

/// `start` counts from the other end if `reversed`. What does not meet the pixels has end <= begin.
Axis make_axis(int64_t length, int64_t start, bool reversed, int64_t cells, int64_t extent, int64_t stride) {
  const int64_t origin = reversed ? length - 1 - start : start;
  const int64_t begin = std::max<int64_t>(reversed ? origin - extent + 1 : origin, 0);
  const int64_t end = std::min(reversed ? origin + 1 : origin + extent, length);
  if (end <= begin) return {};
  return {static_cast<int>(begin), static_cast<int>(end), origin, reversed ? -1 : 1, cells, extent, stride};
}

Patch place(const Stitch& op, const StitchSource& s, size_t n) {
  const int64_t h = s.logits.dim(1), w = s.logits.dim(2), classes = s.logits.dim(3);
  const size_t bytes = static_cast<size_t>(h * w * classes) * size_of(s.logits.dtype);
  const void* logits = s.logits.as<const char>() + n * bytes;
  const int quarters = s.turn & 3;
  const bool mirrored = s.turn & 4;
  if (turn_swaps(s.turn)) {
    return {logits, make_axis(op.image_height, s.lefts[n], quarters == 3, w, s.width, classes),
            make_axis(op.image_width, s.tops[n], (quarters == 1) != mirrored, h, s.height, w * classes)};
  }
  return {logits, make_axis(op.image_height, s.tops[n], quarters == 2, h, s.height, w * classes),
          make_axis(op.image_width, s.lefts[n], (quarters == 2) != mirrored, w, s.width, classes)};
}

/// The patches that meet the band, in their order.
std::vector<Patch> patches_of(const Stitch& op) {
  std::vector<Patch> patches;
  for (const StitchSource& s : op.sources) {
    for (size_t n = 0; n < s.tops.size(); ++n) {
      const Patch patch = place(op, s, n);
      const bool meets = patch.rows.begin < op.row + op.rows && patch.rows.end > op.row &&
                         patch.columns.begin < patch.columns.end;
      if (meets) patches.push_back(patch);
    }
  }
  return patches;
}

__global__ void write_patches_kernel(Patch* table, int count, Patches some) {
  const auto i = static_cast<int>(threadIdx.x);
  if (i < count) table[i] = some.patches[i];
}

/// As many threads as have room for their sums in the shared memory that every launch may have.
int threads_for(int64_t classes) {
  constexpr int64_t kSumBytes = 40 << 10;
  const int64_t room = kSumBytes / (classes * static_cast<int64_t>(sizeof(float)));
  return static_cast<int>(std::min<int64_t>(kThreads, room / 32 * 32));
}

struct Band {
  int row, rows, width, classes;
};

/// labels, confidence: [rows, width]. Asked for four blocks to a processor, ptxas takes the registers that it
/// needs; else it takes fewer, and spills.
template <class T>
__global__ void __launch_bounds__(kThreads, 4)
    stitch_kernel(const Patch* patches, int count, Band band, uint8_t* labels, uint8_t* confidence) {
  constexpr int kWarps = kThreads / 32, kTogether = 8;
  DYNAMIC_SHARED(float, sums);  // [classes, threads]
  SHARED_ARRAY(int, found, kThreads);
  SHARED_ARRAY(int64_t, row_offsets, kThreads);
  SHARED_ARRAY(int, warp_counts, kWarps);
  const auto threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  const int lane = thread % warpSize, warp = thread / warpSize;
  const int pieces = (band.width + threads - 1) / threads;
  const int64_t tiles = static_cast<int64_t>(band.rows) * pieces;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const auto band_row = static_cast<int>(tile / pieces), left = static_cast<int>(tile % pieces) * threads;
    const int row = band.row + band_row, column = left + thread;
    const int right = std::min(left + threads, band.width);
    for (int k = 0; k < band.classes; ++k) sums[k * threads + thread] = 0;
    int covering = 0;
    for (int first = 0; first < count; first += threads) {
      bool meets = false;
      if (first + thread < count) {
        const Patch& patch = patches[first + thread];
        meets = patch.rows.begin <= row && row < patch.rows.end && patch.columns.begin < right &&
                left < patch.columns.end;
      }
      const unsigned ballot = __ballot_sync(0xffffffffu, meets);
      if (lane == 0) warp_counts[warp] = __popc(ballot);
      __syncthreads();
      int before = __popc(ballot & ((1u << lane) - 1)), together = 0;
      for (int i = 0; i < threads / warpSize; ++i) {
        const int some = warp_counts[i];
        if (i < warp) before += some;
        together += some;
      }
      if (meets) {
        found[before] = first + thread;
        row_offsets[before] = patches[first + thread].rows.offset(row);
      }
      __syncthreads();
      for (int i = 0; i < together; ++i) {
        const int index = found[i];
        const Axis& columns = patches[index].columns;
        if (column < columns.begin || column >= columns.end) continue;
        const T* logits =
            static_cast<const T*>(patches[index].logits) + row_offsets[i] + columns.offset(column);
        for (int k = 0; k < band.classes; k += kTogether) {
          float values[kTogether];
          UNROLL
          for (int j = 0; j < kTogether; ++j) {
            values[j] = k + j < band.classes ? static_cast<float>(logits[k + j]) : 0.0f;
          }
          UNROLL
          for (int j = 0; j < kTogether; ++j) {
            if (k + j < band.classes) sums[(k + j) * threads + thread] += values[j];
          }
        }
        ++covering;
      }
      // The next ones overwrite what was found.
      __syncthreads();
    }
    if (column >= band.width) continue;
    int label = 0;
    float best = sums[thread];
    for (int k = 1; k < band.classes; ++k) {
      const float v = sums[k * threads + thread];
      if (v > best || (v != v && best == best)) best = v, label = k;
    }
    const float mean = 1 / static_cast<float>(covering);
    float total = 0;
    for (int k = 0; k < band.classes; ++k) total += expf((sums[k * threads + thread] - best) * mean);
    const int64_t at = static_cast<int64_t>(band_row) * band.width + column;
    labels[at] = static_cast<uint8_t>(label);
    // Not a number where no patch lies, too: 0 * (1 / 0).
    confidence[at] = total == total ? static_cast<uint8_t>(255 / total + 0.5f) : uint8_t{0};
  }
}

}  // namespace

void prepare_stitch(const Stitch& op, Prepare& prepare) {
  size_t patches = 0;
  for (const StitchSource& s : op.sources) patches += s.tops.size();
  prepare.workspace(patches * sizeof(Patch));
}

void stitch(const Stitch& op, const Context& context) {
  const std::vector<Patch> patches = patches_of(op);
  auto* table = static_cast<Patch*>(context.workspace);
  for (size_t first = 0; first < patches.size(); first += kMostPatches) {
    Patches some{};
    const size_t count = std::min(kMostPatches, patches.size() - first);
    std::copy_n(patches.data() + first, count, some.patches);
    launch(write_patches_kernel, 1, static_cast<unsigned>(kMostPatches), 0, stream_of(context), table + first,
           count, some);
  }
  const Band band{op.row, op.rows, op.image_width, static_cast<int>(op.sources[0].logits.dim(3))};
  const int threads = threads_for(band.classes);
  const int64_t tiles = static_cast<int64_t>(band.rows) * ((band.width + threads - 1) / threads);
  const auto bytes = static_cast<size_t>(threads * band.classes) * sizeof(float);
  with_type(op.kName, op.sources[0].logits.dtype, [&](auto t) {
    launch(stitch_kernel<decltype(t)>, static_cast<unsigned>(std::min(tiles, kMostBlocks)),
           static_cast<unsigned>(threads), bytes, stream_of(context), table, patches.size(), band,
           op.labels.as<uint8_t>(), op.confidence.as<uint8_t>());
  });
}

}  // namespace glnet::cuda
