#include "emulator/cudnn.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <string>

#include "core/dtype.h"

namespace glnet::emulator {

struct cudnnContext {
  int device = 0;
  cudaStream_t stream = nullptr;
  std::atomic<bool> busy = false;
};
/// Of a map, an image's or a bias: [n, c, h, w], whatever its format.
struct cudnnTensorStruct {
  bool set = false;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  int n = 0, c = 0, h = 0, w = 0;

  bool operator==(const cudnnTensorStruct&) const = default;
  size_t count() const { return static_cast<size_t>(n) * c * h * w; }
};
struct cudnnFilterStruct {
  bool set = false;
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  int k = 0, c = 0, h = 0, w = 0;

  size_t count() const { return static_cast<size_t>(k) * c * h * w; }
};
struct cudnnConvolutionStruct {
  bool set = false;
  int pad_h = 0, pad_w = 0, stride_h = 0, stride_w = 0;
  cudnnMathType_t math = CUDNN_DEFAULT_MATH;
};
struct cudnnActivationStruct {
  bool set = false;
  cudnnActivationMode_t mode = CUDNN_ACTIVATION_IDENTITY;
  cudnnNanPropagation_t nan = CUDNN_NOT_PROPAGATE_NAN;
};

namespace {

std::atomic<cudnnStatus_t> create_answer = CUDNN_STATUS_SUCCESS, convolution_answer = CUDNN_STATUS_SUCCESS;
std::atomic<int> plain_runs = 0, fused_runs = 0;

std::atomic<bool>& wish() {
  static std::atomic<bool> wanted = [] {
    const char* text = std::getenv("GLNET_CUDNN");
    return text && !std::strcmp(text, "1");
  }();
  return wanted;
}

/// Holds a handle for a call. `ok`: no other thread does, and its device is current.
class Use {
 public:
  explicit Use(cudnnHandle_t handle) : handle_(handle), alone_(!handle->busy.exchange(true)) {
    int device = -1;
    cudaGetDevice(&device);
    ok = alone_ && device == handle->device;
  }
  ~Use() {
    if (alone_) handle_->busy = false;
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

  bool ok;

 private:
  cudnnHandle_t handle_;
  bool alone_;
};

size_t bytes_of(cudnnDataType_t type) {
  return type == CUDNN_DATA_FLOAT ? 4 : 2;
}

double load(cudnnDataType_t type, const void* data, size_t i) {
  if (type == CUDNN_DATA_FLOAT) return static_cast<const float*>(data)[i];
  return static_cast<float>(static_cast<const bfloat16*>(data)[i]);
}

void store(cudnnDataType_t type, void* data, size_t i, double value) {
  if (type == CUDNN_DATA_FLOAT) {
    static_cast<float*>(data)[i] = static_cast<float>(value);
  } else {
    static_cast<bfloat16*>(data)[i] = bfloat16(static_cast<float>(value));
  }
}

/// A convolution as its descriptors have it.
struct Problem {
  cudnnTensorStruct x, y;
  cudnnFilterStruct w;
  cudnnConvolutionStruct convolution;

  bool valid() const {
    const auto side = [](int length, int kernel, int pad, int stride) {
      return (length + 2 * pad - kernel) / stride + 1;
    };
    return x.set && y.set && w.set && convolution.set && x.type == w.type && x.type == y.type && x.c == w.c &&
           y.n == x.n && y.c == w.k && y.h == side(x.h, w.h, convolution.pad_h, convolution.stride_h) &&
           y.w == side(x.w, w.w, convolution.pad_w, convolution.stride_w);
  }
  /// Whether there is code for it: tensor cores have some for whole groups of channels only.
  bool supported() const {
    const bool bfloat16 = x.type == CUDNN_DATA_BFLOAT16;
    return !bfloat16 || (convolution.math == CUDNN_TENSOR_OP_MATH && x.c % 8 == 0 && w.k % 8 == 0);
  }
  /// Not supported if the algorithm is not.
  cudnnStatus_t workspace(cudnnConvolutionFwdAlgo_t algorithm, size_t& bytes) const {
    if (!valid()) return CUDNN_STATUS_BAD_PARAM;
    if (!supported()) return CUDNN_STATUS_NOT_SUPPORTED;
    switch (algorithm) {
      case CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM:
        bytes = 0;
        return CUDNN_STATUS_SUCCESS;
      case CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM:
        bytes = 4 * static_cast<size_t>(w.c * w.h * w.w) + 100;
        return CUDNN_STATUS_SUCCESS;
      case CUDNN_CONVOLUTION_FWD_ALGO_GEMM:
        bytes = size_t{100} << 30;
        return CUDNN_STATUS_SUCCESS;
      case CUDNN_CONVOLUTION_FWD_ALGO_FFT:
        bytes = x.count() * 4;
        return CUDNN_STATUS_SUCCESS;
      default:
        return CUDNN_STATUS_NOT_SUPPORTED;
    }
  }
  double sum(const void* x_data, const void* w_data, int n, int row, int column, int k) const {
    double total = 0;
    for (int i = 0; i < w.h; ++i) {
      for (int j = 0; j < w.w; ++j) {
        const int y_at = row * convolution.stride_h - convolution.pad_h + i;
        const int x_at = column * convolution.stride_w - convolution.pad_w + j;
        if (y_at < 0 || y_at >= x.h || x_at < 0 || x_at >= x.w) continue;
        const size_t pixel = ((static_cast<size_t>(n) * x.h + y_at) * x.w + x_at) * x.c;
        const size_t tap = ((static_cast<size_t>(k) * w.h + i) * w.w + j) * w.c;
        for (int c = 0; c < x.c; ++c)
          total += load(x.type, x_data, pixel + c) * load(w.type, w_data, tap + c);
      }
    }
    return total;
  }
};

/// One of the two convolutions, checked.
struct Run {
  Problem problem;
  const void *x, *w, *z = nullptr, *bias = nullptr;
  void *y, *workspace;
  size_t workspace_bytes;
  cudnnConvolutionFwdAlgo_t algorithm;
  bool relu = false;

  cudnnStatus_t check(const Use& use) const {
    if (!use.ok) return CUDNN_STATUS_BAD_PARAM;
    size_t needed = 0;
    if (const cudnnStatus_t status = problem.workspace(algorithm, needed)) return status;
    const size_t element = bytes_of(problem.x.type), outputs = problem.y.count() * element;
    const bool there = on_device(x, problem.x.count() * element) &&
                       on_device(w, problem.w.count() * element) && on_device(y, outputs) &&
                       (!z || on_device(z, outputs)) && (!bias || on_device(bias, problem.w.k * element)) &&
                       (workspace_bytes == 0 || on_device(workspace, workspace_bytes));
    return there && workspace_bytes >= needed ? convolution_answer.load() : CUDNN_STATUS_BAD_PARAM;
  }

  void operator()() const {
    for (size_t i = 0; i < workspace_bytes / 4; ++i) {
      static_cast<float*>(workspace)[i] = std::numeric_limits<float>::quiet_NaN();
    }
    const cudnnDataType_t type = problem.y.type;
    const bool tf32 = type == CUDNN_DATA_FLOAT && problem.convolution.math != CUDNN_FMA_MATH;
    const bool loses_digits = tf32 || algorithm == CUDNN_CONVOLUTION_FWD_ALGO_FFT;
    size_t at = 0;
    for (int n = 0; n < problem.y.n; ++n) {
      for (int row = 0; row < problem.y.h; ++row) {
        for (int column = 0; column < problem.y.w; ++column) {
          for (int k = 0; k < problem.y.c; ++k, ++at) {
            double sum = problem.sum(x, w, n, row, column, k);
            if (loses_digits) sum *= 1 + 0x1p-11;
            if (z) sum += load(type, z, at);
            if (bias) sum += load(type, bias, k);
            store(type, y, at, relu && sum < 0 ? 0 : sum);
          }
        }
      }
    }
  }
};

float number(const void* value) {
  return *static_cast<const float*>(value);
}

}  // namespace

size_t cudnnGetVersion() {
  return 91200;
}

const char* cudnnGetErrorString(cudnnStatus_t status) {
  switch (status) {
    case CUDNN_STATUS_SUCCESS:
      return "CUDNN_STATUS_SUCCESS";
    case CUDNN_STATUS_NOT_INITIALIZED:
      return "CUDNN_STATUS_NOT_INITIALIZED";
    case CUDNN_STATUS_BAD_PARAM:
      return "CUDNN_STATUS_BAD_PARAM";
    case CUDNN_STATUS_EXECUTION_FAILED:
      return "CUDNN_STATUS_EXECUTION_FAILED";
    default:
      return "another status";
  }
}

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  if (create_answer != CUDNN_STATUS_SUCCESS) return create_answer;
  *handle = new cudnnContext;
  cudaGetDevice(&(*handle)->device);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  const Use use(handle);
  handle->stream = stream;
  return use.ok ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* tensor) {
  *tensor = new cudnnTensorStruct;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t tensor, cudnnTensorFormat_t format,
                                         cudnnDataType_t type, int n, int c, int h, int w) {
  if (format != CUDNN_TENSOR_NHWC || n < 1 || c < 1 || h < 1 || w < 1) return CUDNN_STATUS_BAD_PARAM;
  *tensor = {true, type, n, c, h, w};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t* filter) {
  *filter = new cudnnFilterStruct;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t filter, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int k, int c, int h, int w) {
  if (format != CUDNN_TENSOR_NHWC || k < 1 || c < 1 || h < 1 || w < 1) return CUDNN_STATUS_BAD_PARAM;
  *filter = {true, type, k, c, h, w};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t* convolution) {
  *convolution = new cudnnConvolutionStruct;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t convolution, int pad_h, int pad_w,
                                              int stride_h, int stride_w, int dilation_h, int dilation_w,
                                              cudnnConvolutionMode_t mode, cudnnDataType_t compute_type) {
  const bool ok = pad_h >= 0 && pad_w >= 0 && stride_h >= 1 && stride_w >= 1 && dilation_h == 1 &&
                  dilation_w == 1 && mode == CUDNN_CROSS_CORRELATION && compute_type == CUDNN_DATA_FLOAT;
  *convolution = {ok, pad_h, pad_w, stride_h, stride_w, CUDNN_DEFAULT_MATH};
  return ok ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_BAD_PARAM;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t convolution, cudnnMathType_t math) {
  convolution->math = math;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreateActivationDescriptor(cudnnActivationDescriptor_t* activation) {
  *activation = new cudnnActivationStruct;
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetActivationDescriptor(cudnnActivationDescriptor_t activation, cudnnActivationMode_t mode,
                                           cudnnNanPropagation_t nan, double) {
  *activation = {true, mode, nan};
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardAlgorithm_v7(cudnnHandle_t handle, cudnnTensorDescriptor_t x,
                                                     cudnnFilterDescriptor_t w,
                                                     cudnnConvolutionDescriptor_t convolution,
                                                     cudnnTensorDescriptor_t y, int wanted, int* found,
                                                     cudnnConvolutionFwdAlgoPerf_t* algorithms) {
  const Use use(handle);
  const Problem problem{*x, *y, *w, *convolution};
  if (!use.ok || !problem.valid()) return CUDNN_STATUS_BAD_PARAM;
  const cudnnMathType_t math = convolution->math;
  struct Offer {
    cudnnConvolutionFwdAlgo_t algorithm;
    cudnnMathType_t math;
  };
  const Offer offers[] = {
      {CUDNN_CONVOLUTION_FWD_ALGO_FFT, math},
      {CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD, math},
      {CUDNN_CONVOLUTION_FWD_ALGO_GEMM, math},
      {CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION},
      {CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, math},
      {CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM, math}};
  *found = 0;
  for (const Offer& offer : offers) {
    if (*found == wanted) break;
    size_t bytes = 0;
    const cudnnStatus_t status = problem.workspace(offer.algorithm, bytes);
    algorithms[(*found)++] = {.algo = offer.algorithm,
                              .status = status,
                              .time = -1,
                              .memory = bytes,
                              .determinism = CUDNN_DETERMINISTIC,
                              .mathType = offer.math,
                              .reserved = {}};
  }
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetConvolutionForwardWorkspaceSize(cudnnHandle_t handle, cudnnTensorDescriptor_t x,
                                                      cudnnFilterDescriptor_t w,
                                                      cudnnConvolutionDescriptor_t convolution,
                                                      cudnnTensorDescriptor_t y,
                                                      cudnnConvolutionFwdAlgo_t algorithm, size_t* bytes) {
  const Use use(handle);
  if (!use.ok) return CUDNN_STATUS_BAD_PARAM;
  return Problem{*x, *y, *w, *convolution}.workspace(algorithm, *bytes);
}

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void* alpha, cudnnTensorDescriptor_t x,
                                      const void* x_data, cudnnFilterDescriptor_t w, const void* w_data,
                                      cudnnConvolutionDescriptor_t convolution,
                                      cudnnConvolutionFwdAlgo_t algorithm, void* workspace,
                                      size_t workspace_bytes, const void* beta, cudnnTensorDescriptor_t y,
                                      void* y_data) {
  const Use use(handle);
  const Run run{.problem = {*x, *y, *w, *convolution},
                .x = x_data,
                .w = w_data,
                .y = y_data,
                .workspace = workspace,
                .workspace_bytes = workspace_bytes,
                .algorithm = algorithm};
  if (number(alpha) != 1 || number(beta) != 0) return CUDNN_STATUS_BAD_PARAM;
  ++plain_runs;
  if (const cudnnStatus_t status = run.check(use)) return status;
  detail::submit(handle->stream, run);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnConvolutionBiasActivationForward(
    cudnnHandle_t handle, const void* alpha1, cudnnTensorDescriptor_t x, const void* x_data,
    cudnnFilterDescriptor_t w, const void* w_data, cudnnConvolutionDescriptor_t convolution,
    cudnnConvolutionFwdAlgo_t algorithm, void* workspace, size_t workspace_bytes, const void* alpha2,
    cudnnTensorDescriptor_t z, const void* z_data, cudnnTensorDescriptor_t bias, const void* bias_data,
    cudnnActivationDescriptor_t activation, cudnnTensorDescriptor_t y, void* y_data) {
  const Use use(handle);
  const Run run{.problem = {*x, *y, *w, *convolution},
                .x = x_data,
                .w = w_data,
                .z = number(alpha2) != 0 ? z_data : nullptr,
                .bias = bias_data,
                .y = y_data,
                .workspace = workspace,
                .workspace_bytes = workspace_bytes,
                .algorithm = algorithm,
                .relu = activation->mode == CUDNN_ACTIVATION_RELU};
  const bool one_for_each = *bias == cudnnTensorStruct{true, y->type, 1, y->c, 1, 1};
  const bool adds = algorithm == CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM;
  if (number(alpha1) != 1 || (number(alpha2) != 0 && number(alpha2) != 1) || !activation->set ||
      activation->nan != CUDNN_PROPAGATE_NAN || !(*z == *y) || !one_for_each || !adds || !bias_data ||
      !z_data) {
    return CUDNN_STATUS_BAD_PARAM;
  }
  ++fused_runs;
  if (const cudnnStatus_t status = run.check(use)) return status;
  detail::submit(handle->stream, run);
  return CUDNN_STATUS_SUCCESS;
}

bool cudnn_wanted() {
  return wish();
}

bool want_cudnn(bool wanted) {
  return wish().exchange(wanted);
}

void* find_cudnn(const char* name) {
#define GLNET_FUNCTION(function) {#function, reinterpret_cast<void*>(&function)}
  static const std::map<std::string, void*> functions = {
      GLNET_FUNCTION(cudnnGetVersion),
      GLNET_FUNCTION(cudnnGetErrorString),
      GLNET_FUNCTION(cudnnCreate),
      GLNET_FUNCTION(cudnnSetStream),
      GLNET_FUNCTION(cudnnCreateTensorDescriptor),
      GLNET_FUNCTION(cudnnSetTensor4dDescriptor),
      GLNET_FUNCTION(cudnnCreateFilterDescriptor),
      GLNET_FUNCTION(cudnnSetFilter4dDescriptor),
      GLNET_FUNCTION(cudnnCreateConvolutionDescriptor),
      GLNET_FUNCTION(cudnnSetConvolution2dDescriptor),
      GLNET_FUNCTION(cudnnSetConvolutionMathType),
      GLNET_FUNCTION(cudnnCreateActivationDescriptor),
      GLNET_FUNCTION(cudnnSetActivationDescriptor),
      GLNET_FUNCTION(cudnnGetConvolutionForwardAlgorithm_v7),
      GLNET_FUNCTION(cudnnGetConvolutionForwardWorkspaceSize),
      GLNET_FUNCTION(cudnnConvolutionForward),
      GLNET_FUNCTION(cudnnConvolutionBiasActivationForward),
  };
#undef GLNET_FUNCTION
  const auto function = functions.find(name);
  return function == functions.end() ? nullptr : function->second;
}

void fail_cudnn(cudnnStatus_t create, cudnnStatus_t convolution) {
  create_answer = create;
  convolution_answer = convolution;
}

CudnnRuns cudnn_runs() {
  return {plain_runs, fused_runs};
}

}  // namespace glnet::emulator
