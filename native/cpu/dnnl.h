// oneDNN behind a class and a function: the gradient of a convolution with respect to its input, and a matrix
// product. Works with oneDNN 2 (operation descriptors) and oneDNN 3 (none). The only file that includes
// dnnl.hpp.
#pragma once

#include <omp.h>

#include <algorithm>
#include <dnnl.hpp>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/error.h"
#include "cpu/convolution.h"

namespace glnet::cpu {

/// A compiled gradient with respect to x: dx = the adjoint of conv in float32, applied to dy. Of the spec,
/// sizes and threads count. What is static here is never destroyed: a stream may still run while the process
/// exits.
class ConvolutionBackwardData {
 public:
  /// From a cache of the last used ones. Throws ErrorCode::native when oneDNN has no code for it.
  static std::shared_ptr<const ConvolutionBackwardData> get(const ConvolutionSpec& spec);

  explicit ConvolutionBackwardData(const ConvolutionSpec& spec);

  /// Names the layout of the packed weight: equal names, equal layouts.
  const std::string& layout() const { return layout_; }
  size_t packed_bytes() const { return primitive_.weights_desc().get_size(); }
  size_t workspace_bytes() const { return primitive_.scratchpad_desc().get_size(); }

  /// Brings a dense OIHW weight into the layout that `run` wants.
  void pack(const float* dense, void* packed) const;
  void run(const float* dy, const void* packed, float* dx, void* workspace) const;

 private:
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

  static const dnnl::engine& engine() {
    static const auto& engine = *new dnnl::engine(dnnl::engine::kind::cpu, 0);
    return engine;
  }
  static std::string name_of_layout(const dnnl::memory::desc& layout);
  static dnnl::memory memory(const dnnl::memory::desc& layout, const void* data) {
    return {layout, engine(), const_cast<void*>(data)};
  }
  static void execute(const dnnl::primitive& code, const std::unordered_map<int, dnnl::memory>& arguments) {
    dnnl::stream stream(engine());
    code.execute(stream, arguments);
    stream.wait();
  }

  dnnl::memory::desc weight(Tag layout) const {
    return {{spec_.outputs, spec_.channels, spec_.kernel_height, spec_.kernel_width},
            dnnl::memory::data_type::f32,
            layout};
  }
  dnnl::convolution_backward_data::primitive_desc describe() const;

  ConvolutionSpec spec_;
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

inline std::shared_ptr<const ConvolutionBackwardData> ConvolutionBackwardData::get(
    const ConvolutionSpec& spec) {
  constexpr size_t kCapacity = 512;
  struct Entry {
    std::shared_ptr<const ConvolutionBackwardData> code;
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
  std::shared_ptr<const ConvolutionBackwardData> made;
  try {
    made = std::make_shared<const ConvolutionBackwardData>(spec);
  } catch (const dnnl::error& error) {
    fail(ErrorCode::native, "gradient of the input of a convolution of [", spec.batch, ", ", spec.height,
         ", ", spec.width, ", ", spec.channels, "] by a kernel of ", spec.kernel_height, " x ",
         spec.kernel_width, ", stride ", spec.stride, ", to ", spec.outputs,
         " channels: oneDNN refuses: ", error.what());
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

inline std::string ConvolutionBackwardData::name_of_layout(const dnnl::memory::desc& layout) {
  static std::mutex& mutex = *new std::mutex;
  static auto& known = *new std::vector<dnnl::memory::desc>;
  const std::lock_guard lock(mutex);
  size_t i = 0;
  while (i < known.size() && known[i] != layout) ++i;
  if (i == known.size()) known.push_back(layout);
  return "onednn layout " + std::to_string(i);
}

inline dnnl::convolution_backward_data::primitive_desc ConvolutionBackwardData::describe() const {
  using dnnl::memory;
  constexpr auto kDirect = dnnl::algorithm::convolution_direct;
  constexpr auto kTraining = dnnl::prop_kind::forward_training;
  const memory::dims stride(2, spec_.stride), padding{spec_.padding_height, spec_.padding_width};
  const memory::desc x({spec_.batch, spec_.channels, spec_.height, spec_.width}, memory::data_type::f32,
                       Tag::nhwc);
  const memory::desc y({spec_.batch, spec_.outputs, spec_.output_height(), spec_.output_width()},
                       memory::data_type::f32, Tag::nhwc);
  const memory::desc any = weight(Tag::any);
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);  // the caller's
  const ThreadCount count(spec_.threads);
#if DNNL_VERSION_MAJOR >= 3
  const dnnl::convolution_forward::primitive_desc forward{engine(), kTraining, kDirect, x,       any,
                                                          y,        stride,    padding, padding, attributes};
  return {engine(), kDirect, x, any, y, stride, padding, padding, forward, attributes};
#else
  const dnnl::convolution_forward::primitive_desc forward{
      {kTraining, kDirect, x, any, y, stride, padding, padding}, attributes, engine()};
  return {{kDirect, x, any, y, stride, padding, padding}, attributes, engine(), forward};
#endif
}

inline ConvolutionBackwardData::ConvolutionBackwardData(const ConvolutionSpec& spec)
    : spec_(spec), primitive_(describe()) {
  const ThreadCount count(spec_.threads);
  code_ = dnnl::convolution_backward_data(primitive_);
  layout_ = name_of_layout(primitive_.weights_desc());
}

inline void ConvolutionBackwardData::pack(const float* dense, void* packed) const {
  const dnnl::memory a = memory(weight(Tag::oihw), dense), b = memory(primitive_.weights_desc(), packed);
  execute(dnnl::reorder(a, b), {{DNNL_ARG_FROM, a}, {DNNL_ARG_TO, b}});
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
