// A row of dx after the other: from each patch that reads it, in order, the row of the patch's crop, which is
// gathered from dy and added.
#include <omp.h>

#include <cstring>

#include "cpu/adjoint.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

GLNET_MULTIVERSION void add_row(const float* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; ++i) to[i] += from[i];
}

int64_t thread_floats(const MapGeometry& s) {
  const int64_t channels = s.channels(), row = s.base_width() * channels;
  return (s.width() * channels + 15) / 16 * 16 + (row + 15) / 16 * 16;
}

}  // namespace

size_t crop_resize_backward_bytes(const MapGeometry& source, int threads) {
  return source.sizes.empty() ? 0 : static_cast<size_t>(4 * threads * thread_floats(source));
}

void prepare_crop_resize_backward(const CropResizeBackward& op, Prepare& prepare) {
  check_dtype(op.kName, "dy", op.dy, DType::float32);
  prepare.workspace(crop_resize_backward_bytes(op.source, prepare.threads()));
}

void crop_resize_backward(const CropResizeBackward& op, const Context& context) {
  const MapGeometry& s = op.source;
  const int64_t channels = s.channels(), height = s.base_height(), row_floats = s.base_width() * channels;
  const int64_t map_row = op.dx.dim(2) * channels, patch_floats = s.height() * s.width() * channels;
  const TapAdjoint adjoint(s, 1, 1);
  parallel_for(context.threads, op.dx.dim(0) * op.dx.dim(1), [&](int64_t i) {
    const int64_t map = i / op.dx.dim(1), row = i % op.dx.dim(1);
    float* band = static_cast<float*>(context.workspace) + omp_get_thread_num() * thread_floats(s);
    float* own = band + adjoint.band_floats(channels);
    float* to = op.dx.as<float>() + i * map_row;
    const auto gather = [&](int64_t patch, int64_t at, float* out) {
      adjoint.row(at, op.dy.as<float>() + patch * patch_floats, channels, channels, channels, band, out);
    };
    if (!s.cropped() && !op.addend) return gather(map, row, to);
    if (op.addend) {
      std::memcpy(to, op.addend.as<float>() + i * map_row, static_cast<size_t>(4 * map_row));
    } else {
      std::fill_n(to, map_row, 0.0f);
    }
    for (int64_t patch = s.cropped() ? 0 : map; patch < (s.cropped() ? s.batch() : map + 1); ++patch) {
      const int64_t top = s.cropped() ? s.tops[static_cast<size_t>(patch)] : 0;
      const int64_t left = s.cropped() ? s.lefts[static_cast<size_t>(patch)] : 0;
      if (row < top || row >= top + height) continue;
      const float* from = own;
      if (s.sizes.empty()) {
        from = op.dy.as<float>() + patch * patch_floats + (row - top) * row_floats;
      } else {
        gather(patch, row - top, own);
      }
      add_row(from, row_floats, to + left * channels);
    }
  });
}

}  // namespace glnet::cpu
