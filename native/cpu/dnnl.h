// oneDNN behind a few classes: a convolution with its post-operations, its gradient with respect to data, and
// a matrix product. Works with oneDNN 2 (operation descriptors) and oneDNN 3 (none). The only file that
// includes dnnl.hpp.
#pragma once

#include <omp.h>

#include <cstring>
#include <dnnl.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"
#include "cpu/convolution.h"
#include "cpu/parallel.h"

namespace glnet::cpu {

/// What `make` makes for `spec`, from a cache of the last used ones. Throws ErrorCode::invalid_argument for
/// other dtypes, ErrorCode::native when oneDNN has no code for it.
template <class Code, class Make>
std::shared_ptr<const Code> cached_code(const char* what, const ConvolutionSpec& spec, Make&& make) {
  constexpr size_t kCapacity = 512;
  struct Entry {
    std::shared_ptr<const Code> code;
    uint64_t used;
  };
  static std::mutex& mutex = *new std::mutex;
  static auto& cache = *new std::map<ConvolutionSpec, Entry>;
  static uint64_t clock = 0;
  {
    const std::lock_guard lock(mutex);
    const auto found = cache.find(spec);
    if (found != cache.end()) {
      found->second.used = ++clock;
      return found->second.code;
    }
  }
  std::shared_ptr<const Code> made;
  try {
    made = make();
  } catch (const dnnl::error& error) {
    fail(ErrorCode::native, what, " of [", spec.batch, ", ", spec.height, ", ", spec.width, ", ",
         spec.channels, "] in ", glnet::name_of(spec.input), " by a kernel of ", spec.kernel_height, " x ",
         spec.kernel_width, ", stride ", spec.stride, ", to ", spec.outputs,
         " channels: oneDNN refuses: ", error.what(),
         spec.input == DType::bfloat16 ? ". This machine may lack what bfloat16 needs (AVX-512): use float32"
                                       : "");
  }
  const std::lock_guard lock(mutex);
  if (cache.size() >= kCapacity) {
    const auto oldest = std::min_element(cache.begin(), cache.end(), [](const auto& a, const auto& b) {
      return a.second.used < b.second.used;
    });
    cache.erase(oldest);
  }
  return cache.try_emplace(spec, Entry{made, ++clock}).first->second.code;
}

/// What compiled convolutions and their gradient share. What is static here is never destroyed: a stream may
/// still run while the process exits.
class DnnlCode {
 protected:
  using Tag = dnnl::memory::format_tag;

  /// oneDNN shares out work by OpenMP's thread count, when code is made and when it runs: both must be the
  /// same.
  class ThreadCount {
   public:
    explicit ThreadCount(int threads) : before_(omp_get_max_threads()) { omp_set_num_threads(threads); }
    ~ThreadCount() { omp_set_num_threads(before_); }
    ThreadCount(const ThreadCount&) = delete;
    ThreadCount& operator=(const ThreadCount&) = delete;

   private:
    int before_;
  };

  explicit DnnlCode(const ConvolutionSpec& spec) : spec_(spec) {}

  static const dnnl::engine& engine() {
    static const auto& engine = *new dnnl::engine(dnnl::engine::kind::cpu, 0);
    return engine;
  }
  static dnnl::memory::data_type type_of(DType dtype);
  static std::string name_of_layout(const dnnl::memory::desc& layout);
  static dnnl::memory memory(const dnnl::memory::desc& layout, const void* data) {
    return {layout, engine(), const_cast<void*>(data)};
  }
  static size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }
  /// Scratch memory is the caller's.
  static dnnl::primitive_attr attributes();
  static void execute(const dnnl::primitive& code, const std::unordered_map<int, dnnl::memory>& arguments) {
    dnnl::stream stream(engine());
    code.execute(stream, arguments);
    stream.wait();
  }

  /// Copies a weight from one layout to another.
  static void reorder(const dnnl::memory::desc& from, const void* source, const dnnl::memory::desc& to,
                      void* destination) {
    const dnnl::memory a = memory(from, source), b = memory(to, destination);
    execute(dnnl::reorder(a, b), {{DNNL_ARG_FROM, a}, {DNNL_ARG_TO, b}});
  }

  /// oneDNN takes bfloat16 channels in pairs: of an odd number, the last would be paired with what follows,
  /// past the end of x too. Times zero, but that is NaN where it is not finite.
  bool pads_channels() const { return spec_.input == DType::bfloat16 && spec_.channels % 2; }
  int64_t channels() const { return spec_.channels + (pads_channels() ? 1 : 0); }
  dnnl::memory::dims weight_dims() const {
    return {spec_.outputs, channels(), spec_.kernel_height, spec_.kernel_width};
  }
  dnnl::memory::dims paddings() const { return {spec_.padding_height, spec_.padding_width}; }
  dnnl::memory::desc x() const;
  dnnl::memory::desc weight() const { return {weight_dims(), type_of(spec_.input), Tag::any}; }
  dnnl::memory::desc dense_weight() const { return {weight_dims(), type_of(spec_.input), Tag::oihw}; }
  dnnl::memory::desc y() const;
  dnnl::convolution_forward::primitive_desc describe_forward(dnnl::prop_kind kind,
                                                             const dnnl::primitive_attr& attributes) const {
    return describe_forward(kind, attributes, kDirect, x(), y(), paddings());
  }
  dnnl::convolution_forward::primitive_desc describe_forward(
      dnnl::prop_kind kind, const dnnl::primitive_attr& attributes, dnnl::algorithm algorithm,
      const dnnl::memory::desc& from, const dnnl::memory::desc& to, const dnnl::memory::dims& padding) const;

  static constexpr auto kDirect = dnnl::algorithm::convolution_direct;

  ConvolutionSpec spec_;
};

/// A compiled convolution.
class DnnlConvolution : public Convolution, DnnlCode {
 public:
  explicit DnnlConvolution(const ConvolutionSpec& spec);

  size_t packed_bytes() const override { return primitive_.weights_desc().get_size(); }
  size_t workspace_bytes() const override {
    return scratch_bytes() + (pads_channels() ? aligned(primitive_.src_desc().get_size()) : 0) +
           (spec_.by_rows ? primitive_.dst_desc().get_size() : 0);
  }
  void pack(const void* dense, void* packed) const override;
  void run(const void* x, const void* packed, const float* bias, const void* residual, void* y,
           void* workspace) const override;
  /// Makes all of y first.
  void run_rows(const void* x, const void* packed, void* workspace, const TakeRows& take) const override;

 private:
  size_t scratch_bytes() const { return aligned(primitive_.scratchpad_desc().get_size()); }
  dnnl::convolution_forward::primitive_desc describe() const;

  using DnnlCode::spec_;  // there is the same in both

  /// Whether to copy the residual to y and accumulate there, which is exact: oneDNN's best 16-bit code takes
  /// no second tensor, its float32 code forgets it where the kernel meets nothing but padding, and its oldest
  /// code (SSE 4.1) misplaces it.
  bool copy_residual_;
  dnnl::convolution_forward::primitive_desc primitive_;
  dnnl::convolution_forward code_;
};

/// A compiled gradient with respect to x: dx = the adjoint of conv in float32, applied to dy. Of the spec,
/// sizes and threads count.
class ConvolutionBackwardData : DnnlCode {
 public:
  /// From a cache; throws as `cached_code`.
  static std::shared_ptr<const ConvolutionBackwardData> get(const ConvolutionSpec& spec) {
    return cached_code<ConvolutionBackwardData>("gradient of the input of a convolution", spec, [&] {
      return std::make_shared<const ConvolutionBackwardData>(spec);
    });
  }

  explicit ConvolutionBackwardData(const ConvolutionSpec& spec);

  /// Names the layout of the packed weight: equal names, equal layouts.
  const std::string& layout() const { return layout_; }
  size_t packed_bytes() const { return primitive_.weights_desc().get_size(); }
  size_t workspace_bytes() const { return primitive_.scratchpad_desc().get_size(); }

  /// Brings a dense OIHW weight into the layout that `run` wants.
  void pack(const float* dense, void* packed) const;
  void run(const float* dy, const void* packed, float* dx, void* workspace) const;

 private:
  dnnl::convolution_backward_data::primitive_desc describe() const;

  dnnl::convolution_backward_data::primitive_desc primitive_;
  dnnl::convolution_backward_data code_;
  std::string layout_;
};

/// c = [c +] transpose(a) b: row-major c [rows, columns] with `columns` from one row to the next, a [k, ...]
/// with `a_stride` and b [k, ...] with `b_stride`. Called in a parallel region it computes on its own thread.
inline void multiply_transposed(int64_t rows, int64_t columns, int64_t k, const float* a, int64_t a_stride,
                                const float* b, int64_t b_stride, bool accumulate, float* c) {
  const auto status = dnnl_sgemm('T', 'N', rows, columns, k, 1, a, a_stride, b, b_stride,
                                 accumulate ? 1.0f : 0.0f, c, columns);
  if (status != dnnl_success) fail(ErrorCode::native, "oneDNN's matrix product fails with status ", status);
}

inline dnnl::memory::data_type DnnlCode::type_of(DType dtype) {
  if (dtype == DType::float32) return dnnl::memory::data_type::f32;
  if (dtype == DType::bfloat16) return dnnl::memory::data_type::bf16;
  fail(ErrorCode::invalid_argument, "convolution: the CPU does not compute in ", glnet::name_of(dtype));
}

inline std::string DnnlCode::name_of_layout(const dnnl::memory::desc& layout) {
  static std::mutex& mutex = *new std::mutex;
  static auto& known = *new std::vector<dnnl::memory::desc>;
  const std::lock_guard lock(mutex);
  size_t i = 0;
  while (i < known.size() && known[i] != layout) ++i;
  if (i == known.size()) known.push_back(layout);
  return "onednn layout " + std::to_string(i);
}

inline dnnl::primitive_attr DnnlCode::attributes() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

inline dnnl::memory::desc DnnlCode::x() const {
  return {{spec_.batch, channels(), spec_.height, spec_.width}, type_of(spec_.input), Tag::nhwc};
}

inline dnnl::memory::desc DnnlCode::y() const {
  const auto side = [&](int64_t length, int64_t kernel, int64_t padding) {
    return (length + 2 * padding - kernel) / spec_.stride + 1;
  };
  return {{spec_.batch, spec_.outputs, side(spec_.height, spec_.kernel_height, spec_.padding_height),
           side(spec_.width, spec_.kernel_width, spec_.padding_width)},
          type_of(spec_.output),
          Tag::nhwc};
}

inline dnnl::convolution_forward::primitive_desc DnnlCode::describe_forward(
    dnnl::prop_kind kind, const dnnl::primitive_attr& attributes, dnnl::algorithm algorithm,
    const dnnl::memory::desc& from, const dnnl::memory::desc& to, const dnnl::memory::dims& padding) const {
  using dnnl::memory;
  const memory::dims stride(2, spec_.stride);
  const memory::desc bias =
      spec_.bias ? memory::desc({spec_.outputs}, memory::data_type::f32, Tag::a) : memory::desc();
#if DNNL_VERSION_MAJOR >= 3
  return {engine(), kind, algorithm, from, weight(), bias, to, stride, padding, padding, attributes};
#else
  if (spec_.bias)
    return {{kind, algorithm, from, weight(), bias, to, stride, padding, padding}, attributes, engine()};
  return {{kind, algorithm, from, weight(), to, stride, padding, padding}, attributes, engine()};
#endif
}

inline dnnl::convolution_forward::primitive_desc DnnlConvolution::describe() const {
  dnnl::post_ops post;
  if (spec_.accumulate || copy_residual_) post.append_sum();
  if (spec_.residual && !copy_residual_) post.append_binary(dnnl::algorithm::binary_add, y());
#if DNNL_VERSION_MAJOR >= 3
  if (spec_.relu) post.append_eltwise(dnnl::algorithm::eltwise_relu, 0, 0);
#else
  if (spec_.relu) post.append_eltwise(1, dnnl::algorithm::eltwise_relu, 0, 0);
#endif
  dnnl::primitive_attr attributes = DnnlCode::attributes();
  attributes.set_post_ops(post);
  const ThreadCount count(spec_.threads);
  return describe_forward(dnnl::prop_kind::forward_inference, attributes);
}

inline DnnlConvolution::DnnlConvolution(const ConvolutionSpec& spec)
    : Convolution(spec),
      DnnlCode(spec),
      copy_residual_(spec.residual &&
                     (spec.output != DType::float32 || dnnl_get_effective_cpu_isa() == dnnl_cpu_isa_sse41 ||
                      spec.padding_height >= spec.kernel_height || spec.padding_width >= spec.kernel_width)),
      primitive_(describe()) {
  const ThreadCount count(spec_.threads);
  code_ = dnnl::convolution_forward(primitive_);
  layout_ = name_of_layout(primitive_.weights_desc());
}

inline void DnnlConvolution::pack(const void* dense, void* packed) const {
  std::vector<uint16_t> padded;
  if (pads_channels()) {
    const int64_t area = spec_.kernel_height * spec_.kernel_width;
    padded.resize(static_cast<size_t>(spec_.outputs * channels() * area));
    spread_runs(static_cast<const uint16_t*>(dense), spec_.outputs, spec_.channels * area, channels() * area,
                padded.data());
    dense = padded.data();
  }
  reorder(dense_weight(), dense, primitive_.weights_desc(), packed);
}

inline void DnnlConvolution::run(const void* x, const void* packed, const float* bias, const void* residual,
                                 void* y, void* workspace) const {
  const ThreadCount count(spec_.threads);
  if (pads_channels()) {
    auto* padded = reinterpret_cast<uint16_t*>(static_cast<std::byte*>(workspace) + scratch_bytes());
    parallel_ranges(spec_.threads, spec_.batch * spec_.height * spec_.width, [&](int64_t begin, int64_t end) {
      spread_runs(static_cast<const uint16_t*>(x) + begin * spec_.channels, end - begin, spec_.channels,
                  channels(), padded + begin * channels());
    });
    x = padded;
  }
  std::unordered_map<int, dnnl::memory> arguments{
      {DNNL_ARG_SRC, memory(primitive_.src_desc(), x)},
      {DNNL_ARG_WEIGHTS, memory(primitive_.weights_desc(), packed)},
      {DNNL_ARG_DST, memory(primitive_.dst_desc(), y)},
      {DNNL_ARG_SCRATCHPAD, memory(primitive_.scratchpad_desc(), workspace)},
  };
  if (spec_.bias) arguments.emplace(DNNL_ARG_BIAS, memory(primitive_.bias_desc(), bias));
  if (copy_residual_) {
    parallel_ranges(spec_.threads, static_cast<int64_t>(primitive_.dst_desc().get_size()),
                    [&](int64_t begin, int64_t end) {
                      std::memcpy(static_cast<char*>(y) + begin, static_cast<const char*>(residual) + begin,
                                  static_cast<size_t>(end - begin));
                    });
  } else if (spec_.residual) {
    arguments.emplace(DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1,
                      memory(primitive_.dst_desc(), residual));
  }
  execute(code_, arguments);
}

inline void DnnlConvolution::run_rows(const void* x, const void* packed, void* workspace,
                                      const TakeRows& take) const {
  const int64_t row = spec_.output_width() * spec_.outputs;
  auto* sums = reinterpret_cast<float*>(static_cast<std::byte*>(workspace) + workspace_bytes() -
                                        primitive_.dst_desc().get_size());
  run(x, packed, nullptr, nullptr, sums, workspace);
  parallel_for(spec_.threads, spec_.batch * spec_.output_height(),
               [&](int64_t i) { take(i, i + 1, sums + i * row); });
}

inline dnnl::convolution_backward_data::primitive_desc ConvolutionBackwardData::describe() const {
  const dnnl::memory::dims stride(2, spec_.stride), padding = paddings();
  const ThreadCount count(spec_.threads);
  const auto forward = describe_forward(dnnl::prop_kind::forward_training, attributes());
#if DNNL_VERSION_MAJOR >= 3
  return {engine(), kDirect, x(), weight(), y(), stride, padding, padding, forward, attributes()};
#else
  return {{kDirect, x(), weight(), y(), stride, padding, padding}, attributes(), engine(), forward};
#endif
}

inline ConvolutionBackwardData::ConvolutionBackwardData(const ConvolutionSpec& spec)
    : DnnlCode(spec), primitive_(describe()) {
  const ThreadCount count(spec_.threads);
  code_ = dnnl::convolution_backward_data(primitive_);
  layout_ = name_of_layout(primitive_.weights_desc());
}

inline void ConvolutionBackwardData::pack(const float* dense, void* packed) const {
  reorder(dense_weight(), dense, primitive_.weights_desc(), packed);
}

inline void ConvolutionBackwardData::run(const float* dy, const void* packed, float* dx,
                                         void* workspace) const {
  const ThreadCount count(spec_.threads);
  execute(code_, {{DNNL_ARG_DIFF_DST, memory(primitive_.diff_dst_desc(), dy)},
                  {DNNL_ARG_WEIGHTS, memory(primitive_.weights_desc(), packed)},
                  {DNNL_ARG_DIFF_SRC, memory(primitive_.diff_src_desc(), dx)},
                  {DNNL_ARG_SCRATCHPAD, memory(primitive_.scratchpad_desc(), workspace)}});
}

}  // namespace glnet::cpu
