// The gradient of a convolution's weight, as a matrix product for each tap: with x and dy on grids of one
// width, with zeros where a tap steps outside, the pixels that a tap multiplies lie in both at a fixed
// distance, and its gradient is transpose(dy) x over all of them. A stride makes a grid of x for each phase
// of rows and columns.
//
// With few channels that is a matrix of few columns; there what all taps meet is gathered, pixel by pixel,
// and one product does.
//
// Not oneDNN's own code: it is slow at strides (3 x 3 at stride 2 on 127 x 127 x 128: 0.4 of the forward's
// speed, these products 0.8), sums pixels one after the other (normalised error 1e-10 for ResNet's first
// layer, 6 x 508 x 508), and for 1 x 1 at stride 3 version 2.6 goes beyond its memory.
#include <cstring>

#include "cpu/dnnl.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

/// How the products are shared out. Rows of dy, over the batch, are split in `parts`, each with sums of its
/// own; those of a part in `slices` of the outputs.
class Products {
 public:
  Products(const Conv2dBackwardWeights& op, int threads)
      : op_(op),
        x_(op.x.as<float>()),
        dy_(op.dy.as<float>()),
        height_(op.x.dim(1)),
        width_(op.x.dim(2)),
        channels_(op.x.dim(3)),
        lines_(op.dy.dim(1)),
        columns_(op.dy.dim(2)),
        outputs_(op.dy.dim(3)),
        kernel_height_(op.dweight.dim(2)),
        kernel_width_(op.dweight.dim(3)),
        down_((kernel_height_ - 1) / op.stride),
        across_((kernel_width_ - 1) / op.stride),
        grid_width_(columns_ + across_),
        phases_(std::min<int64_t>(op.stride, kernel_height_) * std::min<int64_t>(op.stride, kernel_width_)),
        in_place_(kernel_height_ * kernel_width_ == 1 && op.stride == 1 && op.padding == 0),
        gathers_(kernel_height_ * kernel_width_ > 1 && channels_ < kFewChannels) {
    constexpr int64_t kMostSums = 16 << 20, kGrids = 1 << 20;  // floats; grids that caches hold
    parts_ = std::min<int64_t>(threads, std::max<int64_t>(1, kMostSums / op.dweight.size()));
    slices_ = std::min<int64_t>(threads / parts_, outputs_);
    if (gathers_) {
      const int64_t line = columns_ * kernel_height_ * kernel_width_ * channels_;
      band_ = std::clamp<int64_t>(kGrids / line, 1, lines_);
      scratch_ = band_ * line + op.dweight.size();
      return;
    }
    const int64_t line = grid_width_ * (phases_ * channels_ + outputs_);
    band_ = in_place_ ? op.dy.dim(0) * lines_ : std::clamp<int64_t>(kGrids / line - down_, 1, lines_);
    grid_x_ = in_place_ ? 0 : (band_ + down_) * grid_width_ * channels_;
    scratch_ = phases_ * grid_x_ + (across_ ? band_ * grid_width_ * outputs_ : 0);
  }

  size_t workspace_bytes() const {
    return static_cast<size_t>(parts_ * (op_.dweight.size() + slices_ * scratch_)) * sizeof(float);
  }

  void run(float* workspace, int threads) const {
    const int64_t size = op_.dweight.size(), lines = op_.dy.dim(0) * lines_;
    std::memset(workspace, 0, static_cast<size_t>(parts_ * size) * sizeof(float));
    float* scratches = workspace + parts_ * size;
    parallel_ranges(threads, parts_ * slices_, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t part = i / slices_, slice = i % slices_;
        const int64_t begin_line = lines * part / parts_, end_line = lines * (part + 1) / parts_;
        const int64_t first = outputs_ * slice / slices_, last = outputs_ * (slice + 1) / slices_;
        float *sums = workspace + part * size, *scratch = scratches + i * scratch_;
        if (gathers_) {
          add_gathered(begin_line, end_line, first, last, sums, scratch);
        } else {
          add_taps(begin_line, end_line, first, last, sums, scratch);
        }
      }
    });
    const int64_t taps = kernel_height_ * kernel_width_;
    const int64_t stride_k = channels_ * (gathers_ ? taps : 1),
                  stride_tap = channels_ * (gathers_ ? 1 : outputs_);
    float* dweight = op_.dweight.as<float>();
    parallel_ranges(threads, outputs_, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        for (int64_t c = 0; c < channels_; ++c) {
          for (int64_t tap = 0; tap < taps; ++tap) {
            double sum = 0;
            for (int64_t part = 0; part < parts_; ++part)
              sum += workspace[part * size + k * stride_k + tap * stride_tap + c];
            dweight[(k * channels_ + c) * taps + tap] += static_cast<float>(sum);
          }
        }
      }
    });
  }

 private:
  /// Adds what the lines `begin` to before `end` of dy give the outputs `first` to before `last` to
  /// sums [K, kh, kw, C].
  void add_gathered(int64_t begin, int64_t end, int64_t first, int64_t last, float* sums,
                    float* scratch) const {
    const int64_t n = kernel_height_ * kernel_width_ * channels_;
    float *gathered = scratch, *products = scratch + band_ * columns_ * n;
    sums += first * n;
    for (int64_t line = begin, count; line < end; line += count) {
      count = std::min(band_, end - line);
      for (int64_t i = 0; i < count; ++i) gather(line + i, gathered + i * columns_ * n);
      multiply_transposed(last - first, n, count * columns_, dy_ + line * columns_ * outputs_ + first,
                          outputs_, gathered, n, false, products);
      // One more level of sums keeps long ones exact.
      for (int64_t i = 0; i < (last - first) * n; ++i) sums[i] += products[i];
    }
  }

  /// The pixels of x that a line of dy meets, as [columns, kh, kw, C], with zeros outside.
  void gather(int64_t line, float* to) const {
    const float* map = x_ + line / lines_ * height_ * width_ * channels_;
    const int64_t top = line % lines_ * op_.stride - op_.padding, run = kernel_width_ * channels_;
    for (int64_t column = 0; column < columns_; ++column) {
      const int64_t z = column * op_.stride - op_.padding;
      const int64_t left = std::clamp<int64_t>(-z, 0, kernel_width_);
      const int64_t right = std::clamp<int64_t>(width_ - z, left, kernel_width_);
      for (int64_t r = 0; r < kernel_height_; ++r, to += run) {
        const int64_t y = top + r;
        if (y < 0 || y >= height_ || left == right) {
          std::fill_n(to, run, 0.0f);
          continue;
        }
        std::fill_n(to, left * channels_, 0.0f);
        std::copy_n(map + (y * width_ + z + left) * channels_, (right - left) * channels_,
                    to + left * channels_);
        std::fill_n(to + right * channels_, (kernel_width_ - right) * channels_, 0.0f);
      }
    }
  }

  /// As add_gathered, to sums [kh, kw, K, C].
  void add_taps(int64_t begin, int64_t end, int64_t first, int64_t last, float* sums, float* grids) const {
    float* grid_dy = grids + phases_ * grid_x_;
    for (int64_t line = begin, count; line < end; line += count) {
      count = in_place_ ? end - line : std::min({band_, end - line, lines_ - line % lines_});
      const float *x = x_ + line * columns_ * channels_, *dy = dy_ + line * columns_ * outputs_;
      if (!in_place_) {
        copy_x(line, count, grids);
        x = grids;
      }
      if (across_) {
        copy_dy(dy, count, grid_dy);
        dy = grid_dy;
      }
      const int64_t pixels = (count - 1) * grid_width_ + columns_;
      for (int64_t r = 0; r < kernel_height_; ++r) {
        for (int64_t s = 0; s < kernel_width_; ++s) {
          const int64_t tap = r * kernel_width_ + s;
          const float* shifted = x + phase(r % op_.stride, s % op_.stride) * grid_x_ +
                                 (r / op_.stride * grid_width_ + s / op_.stride) * channels_;
          multiply_transposed(last - first, channels_, pixels, dy + first, outputs_, shifted, channels_, true,
                              sums + (tap * outputs_ + first) * channels_);
        }
      }
    }
  }

  int64_t phase(int64_t row, int64_t column) const {
    return row * std::min<int64_t>(op_.stride, kernel_width_) + column;
  }

  /// The pixels of x that `count` lines of dy meet, as [phases, count + down, grid_width, C].
  void copy_x(int64_t line, int64_t count, float* to) const {
    const float* map = x_ + line / lines_ * height_ * width_ * channels_;
    const int64_t top = line % lines_;
    const auto bytes = static_cast<size_t>(channels_) * sizeof(float);
    for (int64_t a = 0; a < std::min<int64_t>(op_.stride, kernel_height_); ++a) {
      for (int64_t b = 0; b < std::min<int64_t>(op_.stride, kernel_width_); ++b) {
        float* pixel = to + phase(a, b) * grid_x_;
        for (int64_t i = 0; i < count + down_; ++i) {
          const int64_t y = (top + i) * op_.stride + a - op_.padding;
          for (int64_t j = 0; j < grid_width_; ++j, pixel += channels_) {
            const int64_t z = j * op_.stride + b - op_.padding;
            if (y < 0 || y >= height_ || z < 0 || z >= width_) {
              std::memset(pixel, 0, bytes);
            } else {
              std::memcpy(pixel, map + (y * width_ + z) * channels_, bytes);
            }
          }
        }
      }
    }
  }

  /// Lines of dy as [count, grid_width, K], with zeros behind each.
  void copy_dy(const float* dy, int64_t count, float* to) const {
    for (int64_t i = 0; i < count; ++i, dy += columns_ * outputs_) {
      to = std::copy_n(dy, columns_ * outputs_, to);
      to = std::fill_n(to, across_ * outputs_, 0.0f);
    }
  }

  static constexpr int64_t kFewChannels = 32;

  const Conv2dBackwardWeights& op_;
  const float *x_, *dy_;
  int64_t height_, width_, channels_;  // of x
  int64_t lines_, columns_, outputs_;  // of dy
  int64_t kernel_height_, kernel_width_;
  int64_t down_, across_;  ///< how far taps reach on the grids
  int64_t grid_width_;
  int64_t phases_;
  bool in_place_;  ///< x and dy are the grids
  bool gathers_;
  int64_t parts_, slices_;
  int64_t band_;        ///< lines of dy at a time
  int64_t grid_x_ = 0;  ///< floats of a phase
  int64_t scratch_;     ///< floats of a part's slice
};

}  // namespace

void prepare_conv2d_backward_weights(const Conv2dBackwardWeights& op, Prepare& prepare) {
  check_dtype(op.kName, "x", op.x, DType::float32);
  prepare.workspace(Products(op, prepare.threads()).workspace_bytes());
}

void conv2d_backward_weights(const Conv2dBackwardWeights& op, const Context& context) {
  Products(op, context.threads).run(static_cast<float*>(context.workspace), context.threads);
}

}  // namespace glnet::cpu
