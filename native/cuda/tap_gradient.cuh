// aggregate_conv by taps, backwards: what the gradient of y says about each tap's products on a source's own
// grid.
#pragma once

#include "cuda/adjoint.cuh"

namespace glnet::cuda {

/// The adjoint of the gather of aggregate_conv's taps. With products P[pixel, tap] = W[tap] x[pixel], it
/// takes dy [N, height, width, K] to G, the gradient of P:
///
///   G[i, j, r, s, k] = sum over u, v of R[u, i] R[v, j] dy[u - r + radius, v - s + radius, k]
///
/// where R[u, i] is what the resizes give of the source's row i to row u of the target. Crops and patches
/// that share a map are added in their order, on the rows of the map that they cover: then the products that
/// follow are done once for all patches.
class TapGradient {
 public:
  TapGradient(const char* op, const View& dy, const MapGeometry& source, int64_t kernel);

  int64_t maps() const { return maps_; }
  /// The rows of each map that are read by any patch, and the pixels in these.
  int64_t first_row() const { return first_row_; }
  int64_t last_row() const { return last_row_; }
  int64_t pixels() const { return (last_row_ - first_row_) * width_; }
  int64_t area() const { return kernel_ * kernel_; }
  /// Maps and outputs that are done together, so that G fits scratch_bytes().
  int64_t group() const { return group_; }
  int64_t slice() const { return slice_; }

  int64_t table_bytes() const { return static_cast<int64_t>(rows_.bytes() + columns_.bytes()); }
  int64_t bytes() const { return 4 * group_ * pixels() * area() * slice_; }  ///< of G

  struct Tables {
    AdjointAxis rows, columns;
  };
  Tables fill_tables(const Context& context, void* memory) const;
  /// Writes G [maps, rows, columns, r, s, outputs] of `maps` maps and `outputs` outputs.
  void gather(const Context& context, const Tables& tables, int64_t map, int64_t maps, int64_t output,
              int64_t outputs, float* to) const;

 private:
  void choose_slices();

  View dy_;
  const MapGeometry& source_;
  int64_t kernel_, outputs_;
  AdjointTables rows_, columns_;
  int64_t maps_, first_row_, last_row_, width_;
  int64_t group_, slice_;
};

}  // namespace glnet::cuda
