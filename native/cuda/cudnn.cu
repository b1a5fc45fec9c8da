// conv2d by cuDNN, whose library is loaded when it is first needed: without it, or with GLNET_CUDNN=0 in the
// environment, conv2d.cu computes alone. On the emulator emulator/cudnn.h takes its place, with
// GLNET_CUDNN=1.
//
// Of a convolution's three forms two are cuDNN's: without bias, residual and relu, and with a bias and any of
// the others, which its fused call takes in one pass over y. The third, a residual or relu without a bias, no
// network of ours has. bfloat16 has its bias rounded to bfloat16, since cuDNN wants one dtype, and goes to
// cuDNN only with channels in eights, as its tensor cores want them.
//
// float32 is computed in float32: TF32, which keeps 10 of 23 bits, is never used, nor are the algorithms that
// lose digits by transforming maps and weights (FFT, Winograd). The algorithm is the first of cuDNN's
// heuristic that keeps to that and to kMostWorkspace; it is chosen once for a GPU and a shape, without
// running anything, so that the same program takes the same memory each time.
//
// Weights: cuDNN reads [K, kh, kw, C] where maps are NHWC. With a 1 x 1 kernel those are the bytes of
// [K, C, kh, kw]; of others a copy is made by krsc_kernel, a thread an element, and kept with the weight in
// the pool. It reads and writes the weight once, in lines that taps share: for 512 to 512 channels, 3 x 3, in
// float32 19 MB, 5.6 us on an H100 (3.35 TB/s), 19 us on an RTX 4090 (1.01 TB/s), where the convolution of a
// map of 16 x 16 has 1.2 GFLOP, 18 and 15 us (67 and 83 TFLOP/s), and in bfloat16 less than 2 and 8 (990 and
// 165 TFLOP/s). That is why it is not made anew for each run; it takes 45 MB in float32 for the 3 x 3
// kernels of a ResNet-50.
//
// Floor and bytes of the convolution itself: see conv2d.cu. Considered:
// cudnnFindConvolutionForwardAlgorithmEx, which measures, but takes memory beside the pool and chooses anew
// each time. Left: cuDNN's graphs, which would add a bias of float32 to bfloat16.
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "cuda/common.cuh"
#include "cuda/cudnn.h"

#ifndef __CUDACC__
#define GLNET_CUDNN
#include "emulator/cudnn.h"
#elif defined(GLNET_CUDNN)
#include <cudnn.h>
#include <dlfcn.h>
static_assert(CUDNN_MAJOR == 9, "cuDNN 9 is needed; build with -DGLNET_CUDNN=OFF to do without");
#endif

namespace glnet::cuda {

#ifdef GLNET_CUDNN
namespace {

/// What an algorithm may take of the pool. Implicit products need little; what copies whole maps would take
/// it from the batch, which pays better.
constexpr size_t kMostWorkspace = size_t{64} << 20;

#ifdef __CUDACC__
/// Unless GLNET_CUDNN is 0. Read once, on the first call: that is for `prepare`, on the submitting thread,
/// which is the one that may change the environment.
bool cudnn_wanted() {
  static const bool wanted = [] {
    const char* text = std::getenv("GLNET_CUDNN");
    return !(text && !std::strcmp(text, "0"));
  }();
  return wanted;
}

/// A function of libcudnn; nullptr if there is no such library. Never closed: what it queued may still run.
void* find_cudnn(const char* name) {
  static void* const library = dlopen("libcudnn.so.9", RTLD_NOW | RTLD_LOCAL);
  return library ? dlsym(library, name) : nullptr;
}
#endif

// The functions of cuDNN that are called.
#define GLNET_CUDNN_FUNCTIONS(X)        \
  X(GetVersion)                         \
  X(GetErrorString)                     \
  X(Create)                             \
  X(SetStream)                          \
  X(CreateTensorDescriptor)             \
  X(SetTensor4dDescriptor)              \
  X(CreateFilterDescriptor)             \
  X(SetFilter4dDescriptor)              \
  X(CreateConvolutionDescriptor)        \
  X(SetConvolution2dDescriptor)         \
  X(SetConvolutionMathType)             \
  X(CreateActivationDescriptor)         \
  X(SetActivationDescriptor)            \
  X(GetConvolutionForwardAlgorithm_v7)  \
  X(GetConvolutionForwardWorkspaceSize) \
  X(ConvolutionForward)                 \
  X(ConvolutionBiasActivationForward)

struct Library {
  bool loaded = true;
#define GLNET_MEMBER(Name) decltype(&cudnn##Name) Name = nullptr;
  GLNET_CUDNN_FUNCTIONS(GLNET_MEMBER)
#undef GLNET_MEMBER

  Library() {
#define GLNET_LOAD(Name)                                              \
  Name = reinterpret_cast<decltype(Name)>(find_cudnn("cudnn" #Name)); \
  loaded = loaded && Name;
    GLNET_CUDNN_FUNCTIONS(GLNET_LOAD)
#undef GLNET_LOAD
  }
};

const Library& cudnn() {
  static const Library library;
  return library;
}

/// Calls of cuDNN for an op. After one that cuDNN has no code or no memory for, `ok` is false, and the rest
/// are not made; other failures are thrown.
struct Calls {
  const Conv2d& op;
  bool ok = true;

  template <class... Parameters, class... Arguments>
  bool operator()(const char* name, cudnnStatus_t (*function)(Parameters...), Arguments... arguments) {
    if (!ok) return false;
    const cudnnStatus_t status = function(arguments...);
    ok = status == CUDNN_STATUS_SUCCESS;
    if (ok || CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED ||
        status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
        status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED) {
      return ok;
    }
    fail(ErrorCode::native, op.kName, ": ", name, ": ", cudnn().GetErrorString(status), "; x is ", op.x.shape,
         ", weight ", op.weight.shape, ", ", name_of(op.x.dtype), ", stride ", op.stride, ", padding ",
         op.padding, ". To do without cuDNN, set GLNET_CUDNN=0");
  }
};
#define GLNET_CALL(calls, Name, ...) calls("cudnn" #Name, cudnn().Name, __VA_ARGS__)

/// How cuDNN computes the convolutions of a shape. Not destroyed, as nothing here is: a stream may still run
/// while the process exits.
struct Plan {
  std::atomic<bool> usable = false;
  cudnnTensorDescriptor_t x = nullptr, y = nullptr, bias = nullptr;
  cudnnFilterDescriptor_t weight = nullptr;
  cudnnConvolutionDescriptor_t convolution = nullptr;
  cudnnActivationDescriptor_t activation = nullptr;
  cudnnConvolutionFwdAlgo_t algorithm = CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM;
  size_t workspace = 0;
};

/// Whether an algorithm computes the op's very sums.
bool keeps_digits(cudnnConvolutionFwdAlgo_t algorithm) {
  return algorithm == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM ||
         algorithm == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM ||
         algorithm == CUDNN_CONVOLUTION_FWD_ALGO_GEMM;
}

bool choose_algorithm(const Conv2d& op, cudnnHandle_t handle, Plan& plan) {
  cudnnConvolutionFwdAlgoPerf_t offers[CUDNN_CONVOLUTION_FWD_ALGO_COUNT * 2];
  int count = 0;
  Calls calls{op};
  GLNET_CALL(calls, GetConvolutionForwardAlgorithm_v7, handle, plan.x, plan.weight, plan.convolution, plan.y,
             static_cast<int>(std::size(offers)), &count, offers);
  if (!calls.ok) return false;
  for (int i = 0; i < count; ++i) {
    const auto& offer = offers[i];
    if (offer.status != CUDNN_STATUS_SUCCESS || !keeps_digits(offer.algo)) continue;
    // The one algorithm that adds a bias with and without relu.
    if (op.bias && offer.algo != CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM) continue;
    cudnnMathType_t math = offer.mathType;
    if (op.x.dtype == DType::float32) {
      if (math == CUDNN_TENSOR_OP_MATH || math == CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION) continue;
      math = CUDNN_FMA_MATH;
    }
    Calls attempt{op};
    GLNET_CALL(attempt, SetConvolutionMathType, plan.convolution, math);
    GLNET_CALL(attempt, GetConvolutionForwardWorkspaceSize, handle, plan.x, plan.weight, plan.convolution,
               plan.y, offer.algo, &plan.workspace);
    if (!attempt.ok || plan.workspace > kMostWorkspace) continue;
    plan.algorithm = offer.algo;
    return true;
  }
  return false;
}

void make_plan(const Conv2d& op, cudnnHandle_t handle, Plan& plan) {
  const bool bfloat16 = op.x.dtype == DType::bfloat16;
  const cudnnDataType_t type = bfloat16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
  const auto size = [](const View& v, size_t i) { return static_cast<int>(v.dim(i)); };
  const int outputs = size(op.weight, 0);
  Calls calls{op};
  const auto describe_map = [&](cudnnTensorDescriptor_t& map, int n, int c, int h, int w) {
    GLNET_CALL(calls, CreateTensorDescriptor, &map);
    GLNET_CALL(calls, SetTensor4dDescriptor, map, CUDNN_TENSOR_NHWC, type, n, c, h, w);
  };
  describe_map(plan.x, size(op.x, 0), size(op.x, 3), size(op.x, 1), size(op.x, 2));
  describe_map(plan.y, size(op.y, 0), outputs, size(op.y, 1), size(op.y, 2));
  describe_map(plan.bias, 1, outputs, 1, 1);
  GLNET_CALL(calls, CreateFilterDescriptor, &plan.weight);
  GLNET_CALL(calls, SetFilter4dDescriptor, plan.weight, type, CUDNN_TENSOR_NHWC, outputs, size(op.weight, 1),
             size(op.weight, 2), size(op.weight, 3));
  GLNET_CALL(calls, CreateConvolutionDescriptor, &plan.convolution);
  GLNET_CALL(calls, SetConvolution2dDescriptor, plan.convolution, op.padding, op.padding, op.stride,
             op.stride, 1, 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT);
  GLNET_CALL(calls, SetConvolutionMathType, plan.convolution,
             bfloat16 ? CUDNN_TENSOR_OP_MATH : CUDNN_FMA_MATH);
  GLNET_CALL(calls, CreateActivationDescriptor, &plan.activation);
  GLNET_CALL(calls, SetActivationDescriptor, plan.activation,
             op.relu ? CUDNN_ACTIVATION_RELU : CUDNN_ACTIVATION_IDENTITY, CUDNN_PROPAGATE_NAN, 0.0);
  plan.usable = calls.ok && choose_algorithm(op, handle, plan);
}

/// What a GPU has of cuDNN.
class Gpu {
 public:
  /// The plan for an op, made at first sight. The GPU must be current.
  Plan& plan(const Conv2d& op) {
    Key key{op.stride, op.padding, static_cast<int64_t>(op.x.dtype), static_cast<bool>(op.bias), op.relu};
    auto next = key.begin() + 5;
    for (const int64_t size : op.x.shape) *next++ = size;
    for (const int64_t size : op.weight.shape) *next++ = size;
    const std::lock_guard lock(plans_mutex_);
    const auto [entry, is_new] = plans_.try_emplace(key);
    if (is_new) use([&](cudnnHandle_t handle) { make_plan(op, handle, entry->second); });
    return entry->second;
  }

  /// Calls `with(handle)`, unless there is none. A handle is not for two threads at once, and to prepare and
  /// to run are two; those that prepare wait for one that runs only when they see a new shape.
  template <class With>
  void use(With&& with) {
    const std::lock_guard lock(handle_mutex_);
    if (!tried_ && cudnn().Create(&handle_) != CUDNN_STATUS_SUCCESS) handle_ = nullptr;
    tried_ = true;
    if (handle_) with(handle_);
  }

 private:
  using Key = std::array<int64_t, 13>;

  std::mutex handle_mutex_;
  bool tried_ = false;
  cudnnHandle_t handle_ = nullptr;
  std::mutex plans_mutex_;
  std::map<Key, Plan> plans_;
};

/// The GPU on which the op's data lie, made current.
Gpu& gpu_of(const Conv2d& op) {
  cudaPointerAttributes attributes;
  check_cuda(cudaPointerGetAttributes(&attributes, op.x.data), "cudaPointerGetAttributes");
  check_cuda(cudaSetDevice(attributes.device), "cudaSetDevice");
  static std::mutex mutex;
  static auto& gpus = *new std::map<int, Gpu>;
  const std::lock_guard lock(mutex);
  return gpus[attributes.device];
}

/// Whether cuDNN is to be asked.
bool suits(const Conv2d& op) {
  if ((op.residual || op.relu) && !op.bias) return false;
  if (op.padding >= std::min(op.weight.dim(2), op.weight.dim(3))) return false;
  const bool eights = op.x.dim(3) % 8 == 0 && op.weight.dim(0) % 8 == 0;
  return (op.x.dtype == DType::float32 || eights) && cudnn_wanted() && cudnn().loaded;
}

bool packs_weight(const Conv2d& op) {
  return op.weight.dim(2) * op.weight.dim(3) > 1;
}

bool packs_bias(const Conv2d& op) {
  return op.bias && op.x.dtype == DType::bfloat16;
}

template <class From, class To>
__global__ void krsc_kernel(const From* from, int64_t n, int channels, int area, To* to) {
  for (int64_t i = first_item(); i < n; i += item_step()) {
    const int channel = static_cast<int>(i % channels), tap = static_cast<int>(i / channels % area);
    const int64_t output = i / channels / area;
    to[i] = To(static_cast<float>(from[(output * channels + channel) * area + tap]));
  }
}

/// A weight [K, C, kh, kw], or a bias [K], as [K, kh, kw, C] of another dtype.
template <class From, class To>
void pack(Prepare& prepare, const View& weight, const char* layout) {
  const int64_t n = weight.size(), channels = weight.shape.size() > 1 ? weight.dim(1) : 1;
  const auto area = static_cast<int>(n / weight.dim(0) / channels);
  prepare.pack(weight, layout, static_cast<size_t>(n) * sizeof(To),
               [=](const Context& context, const void* from, void* to) {
                 launch(krsc_kernel<From, To>, blocks_for(n), kThreads, 0, stream_of(context),
                        static_cast<const From*>(from), n, static_cast<int>(channels), area,
                        static_cast<To*>(to));
               });
}

}  // namespace

void prepare_cudnn_conv2d(const Conv2d& op, Prepare& prepare) {
  if (!suits(op)) return;
  const Plan& plan = gpu_of(op).plan(op);
  if (!plan.usable) return;
  prepare.workspace(plan.workspace);
  if (packs_weight(op)) {
    with_type(op.kName, op.x.dtype,
              [&](auto t) { pack<decltype(t), decltype(t)>(prepare, op.weight, "KRSC"); });
  }
  if (packs_bias(op)) pack<float, bfloat16>(prepare, op.bias, "bfloat16");
}

bool cudnn_conv2d(const Conv2d& op, const Context& context) {
  if (!suits(op)) return false;
  Gpu& gpu = gpu_of(op);
  Plan& plan = gpu.plan(op);
  if (!plan.usable) return false;
  const void* weight = packs_weight(op) ? context.packed.front() : op.weight.data;
  const void* bias = packs_bias(op) ? context.packed.back() : op.bias.data;
  const void* residual = op.residual ? op.residual.data : op.y.data;  // not read where its factor is 0
  const float zero = 0, one = 1, residual_factor = op.residual ? 1 : 0;
  Calls calls{op};
  gpu.use([&](cudnnHandle_t handle) {
    GLNET_CALL(calls, SetStream, handle, stream_of(context));
    if (op.bias) {
      GLNET_CALL(calls, ConvolutionBiasActivationForward, handle, &one, plan.x, op.x.data, plan.weight,
                 weight, plan.convolution, plan.algorithm, context.workspace, plan.workspace,
                 &residual_factor, plan.y, residual, plan.bias, bias, plan.activation, plan.y, op.y.data);
    } else {
      GLNET_CALL(calls, ConvolutionForward, handle, &one, plan.x, op.x.data, plan.weight, weight,
                 plan.convolution, plan.algorithm, context.workspace, plan.workspace, &zero, plan.y,
                 op.y.data);
    }
  });
  if (!calls.ok) plan.usable = false;  // what is refused once is not tried again
  return calls.ok;
}

std::string cudnn_description() {
  if (!cudnn_wanted()) return "";
  if (!cudnn().loaded) return "no cuDNN: libcudnn.so.9 does not load";
  const size_t version = cudnn().GetVersion();
  return "cuDNN " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

#else  // built without cudnn.h

void prepare_cudnn_conv2d(const Conv2d&, Prepare&) {}

bool cudnn_conv2d(const Conv2d&, const Context&) {
  return false;
}

std::string cudnn_description() {
  return "";
}

#endif

}  // namespace glnet::cuda
