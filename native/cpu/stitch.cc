#include <vector>

#include "cpu/argmax.h"
#include "cpu/exp.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"

// Logits are coarser than pixels: all pixels that read the same cells of every patch have the same sums. So a
// tile of the image is cut into segments of columns at the edges of cells, sums and softmax are computed once
// for each segment, and rows in which no patch moves on to its next cell are copies of the row above.

namespace glnet::cpu {
namespace {

constexpr int64_t kSums = 8192;  // floats of a thread's sums
constexpr int64_t kTileColumns = 1024;
constexpr int64_t kTileRows = 64;

/// The rows or the columns of the image as a patch sees them.
struct Axis {
  int64_t begin, end;     ///< the pixels of the image on which the patch lies
  int64_t origin, step;   ///< pixel p is the patch's pixel step * (p - origin), step being 1 or -1
  int64_t cells, extent;  ///< of the logits, in cells and in pixels
  int64_t stride;         ///< elements from cell to cell

  /// `start` counts from the other end if `reversed`.
  Axis(int64_t length, int64_t start, bool reversed, int64_t cells_, int64_t extent_, int64_t stride_)
      : cells(cells_), extent(extent_), stride(stride_) {
    step = reversed ? -1 : 1;
    origin = reversed ? length - 1 - start : start;
    begin = std::max<int64_t>(reversed ? origin - extent + 1 : origin, 0);
    end = std::min(reversed ? origin + 1 : origin + extent, length);
  }
  int64_t cell(int64_t pixel) const { return step * (pixel - origin) * cells / extent; }
  /// The first pixel after this one that lies in another cell, or `end`.
  int64_t next(int64_t pixel) const {
    const int64_t q = cell(pixel);
    const int64_t edge = step > 0 ? origin + ((q + 1) * extent + cells - 1) / cells
                                  : origin - (q * extent + cells - 1) / cells + 1;
    return std::min(edge, end);
  }
};

template <class T>
struct Patch {
  const T* logits;
  Axis rows, columns;
};

template <class T>
Patch<T> place(const Stitch& op, const StitchSource& s, size_t n) {
  const int64_t h = s.logits.dim(1), w = s.logits.dim(2), classes = s.logits.dim(3);
  const T* logits = s.logits.as<const T>() + static_cast<int64_t>(n) * h * w * classes;
  const int64_t quarters = s.turn & 3;
  const bool mirrored = s.turn & 4;
  if (turn_swaps(s.turn)) {
    return {logits, Axis(op.image_height, s.lefts[n], quarters == 3, w, s.width, classes),
            Axis(op.image_width, s.tops[n], (quarters == 1) != mirrored, h, s.height, w * classes)};
  }
  return {logits, Axis(op.image_height, s.tops[n], quarters == 2, h, s.height, w * classes),
          Axis(op.image_width, s.lefts[n], (quarters == 2) != mirrored, w, s.width, classes)};
}

/// Part of the image, and where its results go (at its top left pixel).
struct Tile {
  int64_t top, bottom, left, right;
  uint8_t *labels, *confidence;
  int64_t stride;
};

/// Cuts the columns where any patch begins, ends, or moves on to its next cell. Returns the number of
/// segments; starts has the end of the last one, too.
template <class T>
int64_t cut(const Tile& tile, const std::vector<const Patch<T>*>& patches, int64_t* starts) {
  bool edges[kTileColumns] = {true};
  for (const Patch<T>* patch : patches) {
    const Axis& axis = patch->columns;
    const int64_t end = std::min(tile.right, axis.end);
    for (int64_t p = std::max(tile.left, axis.begin); p < end; p = axis.next(p)) edges[p - tile.left] = true;
    if (end < tile.right) edges[end - tile.left] = true;
  }
  int64_t segments = 0;
  for (int64_t p = tile.left; p < tile.right; ++p) {
    if (edges[p - tile.left]) starts[segments++] = p;
  }
  starts[segments] = tile.right;
  return segments;
}

/// Labels and confidence from sums over `counts` patches. Overwrites the sums.
GLNET_MULTIVERSION void judge(float* sums, const float* counts, int64_t segments, int64_t classes,
                              uint8_t* labels, uint8_t* confidence) {
  label_rows(labels, sums, segments, classes);
  for (int64_t s = 0; s < segments; ++s) {
    float* values = sums + s * classes;
    const float largest = values[labels[s]], mean = 1 / counts[s];
    for (int64_t k = 0; k < classes; ++k) values[k] = (values[k] - largest) * mean;
  }
  for (int64_t i = 0; i < segments * classes; ++i) sums[i] = exp_of_negative(sums[i]);
  for (int64_t s = 0; s < segments; ++s) {
    float total = 0;
    for (int64_t k = 0; k < classes; ++k) total += sums[s * classes + k];
    // Not a number where no patch lies, too: 0 * (1 / 0).
    confidence[s] = total == total ? static_cast<uint8_t>(255 / total + 0.5f) : uint8_t{0};
  }
}

template <class T>
GLNET_MULTIVERSION void add_patch(float* sums, float* counts, const int64_t* starts, int64_t segments,
                                  const Patch<T>& patch, int64_t row, int64_t classes) {
  const Axis axis = patch.columns;
  const T* logits = patch.logits + patch.rows.cell(row) * patch.rows.stride;
  // Half a cell from the next whole number at least is more than double loses.
  const double cells = static_cast<double>(axis.cells), inverse = 1 / static_cast<double>(axis.extent);
  for (int64_t s = std::lower_bound(starts, starts + segments, axis.begin) - starts;
       s < segments && starts[s] < axis.end; ++s) {
    const auto distance = static_cast<double>(axis.step * (starts[s] - axis.origin));
    const T* from = logits + static_cast<int64_t>((distance * cells + 0.5) * inverse) * axis.stride;
    float* to = sums + s * classes;
    for (int64_t k = 0; k < classes; ++k) to[k] += static_cast<float>(from[k]);
    counts[s] += 1;
  }
}

template <class T>
void stitch_tile(const Tile& tile, const std::vector<const Patch<T>*>& patches, int64_t classes) {
  int64_t starts[kTileColumns + 1];
  float sums[kSums], counts[kTileColumns];
  uint8_t labels[kTileColumns], confidence[kTileColumns];
  const int64_t segments = cut(tile, patches, starts);
  const int64_t columns = tile.right - tile.left;
  int64_t next = tile.top;
  for (int64_t row = tile.top; row < tile.bottom; ++row) {
    uint8_t* out_labels = tile.labels + (row - tile.top) * tile.stride;
    uint8_t* out_confidence = tile.confidence + (row - tile.top) * tile.stride;
    if (row < next) {
      std::copy_n(out_labels - tile.stride, columns, out_labels);
      std::copy_n(out_confidence - tile.stride, columns, out_confidence);
      continue;
    }
    std::fill_n(sums, segments * classes, 0.0f);
    std::fill_n(counts, segments, 0.0f);
    next = tile.bottom;
    for (const Patch<T>* patch : patches) {
      if (row < patch->rows.begin) {
        next = std::min(next, patch->rows.begin);
      } else if (row < patch->rows.end) {
        next = std::min(next, patch->rows.next(row));
        add_patch(sums, counts, starts, segments, *patch, row, classes);
      }
    }
    judge(sums, counts, segments, classes, labels, confidence);
    for (int64_t s = 0; s < segments; ++s) {
      for (int64_t p = starts[s] - tile.left; p < starts[s + 1] - tile.left; ++p) {
        out_labels[p] = labels[s];
        out_confidence[p] = confidence[s];
      }
    }
  }
}

template <class T>
void stitch_band(const Stitch& op, int threads) {
  const int64_t classes = op.sources[0].logits.dim(3), width = op.image_width;
  const int64_t tile_columns = std::min(kTileColumns, kSums / classes);
  const int64_t across = (width + tile_columns - 1) / tile_columns,
                down = (op.rows + kTileRows - 1) / kTileRows;

  std::vector<Patch<T>> patches;
  for (const StitchSource& s : op.sources) {
    for (size_t n = 0; n < s.tops.size(); ++n) {
      const Patch<T> patch = place<T>(op, s, n);
      const bool meets = patch.rows.begin < op.row + op.rows && patch.rows.end > op.row &&
                         patch.columns.begin < patch.columns.end;
      if (meets) patches.push_back(patch);
    }
  }
  std::vector<std::vector<const Patch<T>*>> meeting(static_cast<size_t>(across * down));
  for (const Patch<T>& patch : patches) {
    const int64_t first = std::max<int64_t>(patch.rows.begin - op.row, 0) / kTileRows;
    const int64_t last = (std::min<int64_t>(patch.rows.end - op.row, op.rows) - 1) / kTileRows;
    for (int64_t i = first; i <= last; ++i) {
      for (int64_t j = patch.columns.begin / tile_columns; j <= (patch.columns.end - 1) / tile_columns; ++j) {
        meeting[static_cast<size_t>(i * across + j)].push_back(&patch);
      }
    }
  }

  parallel_for(threads, across * down, [&](int64_t i) {
    const int64_t row = i / across * kTileRows, column = i % across * tile_columns;
    const int64_t at = row * width + column;
    const Tile tile{op.row + row,
                    op.row + std::min<int64_t>(row + kTileRows, op.rows),
                    column,
                    std::min(column + tile_columns, width),
                    op.labels.as<uint8_t>() + at,
                    op.confidence.as<uint8_t>() + at,
                    width};
    stitch_tile(tile, meeting[static_cast<size_t>(i)], classes);
  });
}

}  // namespace

void stitch(const Stitch& op, const Context& context) {
  with_type(op.kName, op.sources[0].logits.dtype,
            [&](auto t) { stitch_band<decltype(t)>(op, context.threads); });
}

}  // namespace glnet::cpu
