// A convolution as the CPU kernels use it, whichever of `convolutions` computes it.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/dtype.h"

namespace glnet::cpu {

/// All that a convolution's code depends on: y = relu([y +] conv(x) [+ bias] [+ residual]).
struct ConvolutionSpec {
  int64_t batch = 1, height = 0, width = 0, channels = 0;  ///< of x, NHWC
  int64_t outputs = 0, kernel_height = 1, kernel_width = 1;
  int64_t stride = 1, padding_height = 0, padding_width = 0;
  DType input = DType::float32;   ///< of x and the weight: float32 or bfloat16
  DType output = DType::float32;  ///< of y and the residual
  bool bias = false;
  bool accumulate = false;  ///< adds to what is in y
  bool residual = false;    ///< not together with `accumulate`
  bool relu = false;
  bool by_rows = false;  ///< for `run_rows`, of sums in float32, without bias, residual and ReLU
  int threads = 1;

  auto operator<=>(const ConvolutionSpec&) const = default;

  int64_t output_height() const { return (height + 2 * padding_height - kernel_height) / stride + 1; }
  int64_t output_width() const { return (width + 2 * padding_width - kernel_width) / stride + 1; }
  int64_t output_pixels() const { return batch * output_height() * output_width(); }
};

/// May run on several threads at once, each with a workspace of its own.
class Convolution {
 public:
  /// The fastest one for `spec`. Throws ErrorCode::invalid_argument for other dtypes.
  static std::shared_ptr<const Convolution> get(const ConvolutionSpec& spec);

  /// Multiply-adds that a pixel of y takes for each channel of x, in whole vectors, and what costs as much.
  static double cost(const ConvolutionSpec& spec);

  virtual ~Convolution() = default;
  Convolution(const Convolution&) = delete;
  Convolution& operator=(const Convolution&) = delete;

  /// Names the layout of the packed weight: equal names, equal layouts.
  const std::string& layout() const { return layout_; }
  /// Of the dense weight.
  int64_t weight_elements() const {
    return spec_.outputs * spec_.channels * spec_.kernel_height * spec_.kernel_width;
  }
  virtual size_t packed_bytes() const = 0;
  virtual size_t workspace_bytes() const = 0;
  /// Brings a dense OIHW weight into the layout that `run` wants.
  virtual void pack(const void* dense, void* packed) const = 0;
  /// The same of the transpose of a float32 matrix: `dense` is [channels, outputs, 1, 1].
  void pack_transposed(const float* dense, void* packed) const;
  /// `bias` and `residual` are read only if the spec has them.
  virtual void run(const void* x, const void* packed, const float* bias, const void* residual, void* y,
                   void* workspace) const = 0;

  /// Takes rows `begin` to before `end` of all maps of y, [end - begin, width, outputs].
  using TakeRows = std::function<void(int64_t begin, int64_t end, const float* sums)>;
  /// Hands y over as it comes, some rows at a time, each on the thread that made it and while it is in its
  /// cache. Of a spec `by_rows`.
  virtual void run_rows(const void* x, const void* packed, void* workspace, const TakeRows& take) const = 0;

 protected:
  explicit Convolution(const ConvolutionSpec& spec) : spec_(spec) {}

  ConvolutionSpec spec_;
  std::string layout_;
};

}  // namespace glnet::cpu
