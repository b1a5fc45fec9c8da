// A device and what runs on it: one stream computes, another brings data in, so that the next patches arrive
// while the last ones are computed.
//
// Data goes to the device through slots: pinned memory on the host and as much on the device. The host fills
// a slot, the copying stream moves it over, and the computing stream moves it on to its place; the place is
// memory of the pool, which only the computing stream's order keeps safe. That last move costs a thousandth
// of the first (3.35 TB/s against PCIe's 0.03 to 0.06). Data goes to the host through the same pinned memory,
// several slots on their way at once.
//
// A graph is captured from what is queued, each time anew: addresses and corners differ from batch to batch,
// and are parameters of the kernels. The executable graph of the time before takes these over, which fails
// where the launches are others; then another is made.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <sstream>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda/common.cuh"
#include "cuda/engine.h"

namespace glnet::cuda {

/// Whether every further call fails: a kernel's fault, or the hardware's.
static bool is_lost(cudaError_t status) {
  constexpr int kFirstFault = 700, kLastFault = 720, kUncorrectableMemory = 214, kUncorrectableLink = 220;
  const int code = status;
  return (code >= kFirstFault && code <= kLastFault) || code == kUncorrectableMemory ||
         code == kUncorrectableLink;
}

void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky, and told here
    fail(ErrorCode::out_of_memory, "CUDA: ", what, ": the device has no more memory");
  }
  const char* advice = "";
  if (is_lost(status)) {
    advice = ". What is on the device is lost: dispose of the model, and start the process anew";
  } else {
    cudaGetLastError();  // or the next launch would report it again
    if (status == cudaErrorNoKernelImageForDevice) {
      advice = ". This build has no code for the device: build libglnet_cuda.so for its compute capability";
    }
  }
  fail(ErrorCode::native, "CUDA: ", what, ": ", cudaGetErrorName(status), ": ", cudaGetErrorString(status),
       advice);
}

namespace {

constexpr size_t kSlotBytes = size_t{2} << 20;
constexpr size_t kSlots = 4;
constexpr int kLeastCapability = 75;  // Turing

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

cudaDeviceProp properties_of(int index) {
  cudaDeviceProp properties;
  check_cuda(cudaGetDeviceProperties(&properties, index), "cudaGetDeviceProperties");
  return properties;
}

/// `flags`: cudaEventBlockingSync for waits that may be long, which then leave the processor to others.
cudaEvent_t make_event(unsigned flags) {
  cudaEvent_t event;
  check_cuda(cudaEventCreateWithFlags(&event, flags | cudaEventDisableTiming), "event");
  return event;
}

class Gpu final : public Engine {
 public:
  explicit Gpu(int index) : index_(index) {}

  void open() {
    use();
    check_cuda(cudaStreamCreateWithFlags(&compute_, cudaStreamNonBlocking), "stream");
    check_cuda(cudaStreamCreateWithFlags(&copies_, cudaStreamNonBlocking), "stream");
    for (Slot& slot : slots_) {
      check_cuda(cudaMallocHost(&slot.host, kSlotBytes), "pinned memory");
      check_cuda(cudaMalloc(&slot.device, kSlotBytes), "staging memory");
      slot.host_free = make_event(cudaEventDefault);
      slot.device_free = make_event(cudaEventDefault);
    }
  }

  // Nothing is checked: a lost device refuses, and there is nobody to tell.
  ~Gpu() override {
    cudaSetDevice(index_);
    if (compute_) cudaStreamSynchronize(compute_);
    if (copies_) cudaStreamSynchronize(copies_);
    for (Slot& slot : slots_) {
      if (slot.host_free) cudaEventDestroy(slot.host_free);
      if (slot.device_free) cudaEventDestroy(slot.device_free);
      if (slot.host) cudaFreeHost(slot.host);
      if (slot.device) cudaFree(slot.device);
    }
    for (const cudaEvent_t event : marks_) cudaEventDestroy(event);
    if (compute_) cudaStreamDestroy(compute_);
    if (copies_) cudaStreamDestroy(copies_);
  }

  void* allocate(size_t bytes) override {
    use();
    void* data = nullptr;
    const cudaError_t status = cudaMalloc(&data, bytes);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return nullptr;
    }
    check_cuda(status, "cudaMalloc");
    return data;
  }

  void release(void* data, size_t) override {
    cudaSetDevice(index_);
    cudaFree(data);
  }

  std::shared_ptr<Graph> make_graph() override { return std::make_shared<Captured>(); }
  size_t graph_launches() const override { return launches_; }

  void begin(Graph& graph) override {
    use();
    // What other threads call meanwhile, such as cudaMalloc, is none of its business.
    check_cuda(cudaStreamBeginCapture(compute_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    capturing_ = &static_cast<Captured&>(graph);
  }

  void end() override {
    if (capturing_) launch_captured(capturing_->last);
  }

  void fill(void* to, int byte, size_t bytes) override {
    use();
    check_cuda(cudaMemsetAsync(to, byte, bytes, compute_), "cudaMemsetAsync");
  }

  void upload(void* to, const void* from, size_t bytes) override {
    end_early();
    use();
    const std::lock_guard lock(staging_);
    for (size_t at = 0; at < bytes; at += kSlotBytes) {
      const size_t part = std::min(kSlotBytes, bytes - at);
      const Slot& slot = next_slot();
      check_cuda(cudaEventSynchronize(slot.host_free), "upload");
      std::memcpy(slot.host, static_cast<const std::byte*>(from) + at, part);
      check_cuda(cudaStreamWaitEvent(copies_, slot.device_free, 0), "upload");
      check_cuda(cudaMemcpyAsync(slot.device, slot.host, part, cudaMemcpyHostToDevice, copies_), "upload");
      check_cuda(cudaEventRecord(slot.host_free, copies_), "upload");
      check_cuda(cudaStreamWaitEvent(compute_, slot.host_free, 0), "upload");
      check_cuda(cudaMemcpyAsync(static_cast<std::byte*>(to) + at, slot.device, part,
                                 cudaMemcpyDeviceToDevice, compute_),
                 "upload");
      check_cuda(cudaEventRecord(slot.device_free, compute_), "upload");
    }
  }

  void download(void* to, const void* from, size_t bytes) override {
    end_early();
    use();
    const std::lock_guard lock(staging_);
    struct Part {
      const Slot* slot;
      size_t at, bytes;
    };
    std::vector<Part> coming;  // the oldest first
    const auto take_oldest = [&] {
      const Part part = coming.front();
      coming.erase(coming.begin());
      check_cuda(cudaEventSynchronize(part.slot->host_free), "download");
      std::memcpy(static_cast<std::byte*>(to) + part.at, part.slot->host, part.bytes);
    };
    for (size_t at = 0; at < bytes; at += kSlotBytes) {
      if (coming.size() == kSlots) take_oldest();
      const Part part{&next_slot(), at, std::min(kSlotBytes, bytes - at)};
      // Its last upload may still be on its way.
      check_cuda(cudaStreamWaitEvent(compute_, part.slot->host_free, 0), "download");
      check_cuda(cudaMemcpyAsync(part.slot->host, static_cast<const std::byte*>(from) + at, part.bytes,
                                 cudaMemcpyDeviceToHost, compute_),
                 "download");
      check_cuda(cudaEventRecord(part.slot->host_free, compute_), "download");
      coming.push_back(part);
    }
    while (!coming.empty()) take_oldest();
  }

  std::string description() const override {
    const cudaDeviceProp properties = properties_of(index_);
    int driver = 0;
    check_cuda(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    std::ostringstream text;
    text.precision(1);
    text << properties.name << ", " << std::fixed
         << static_cast<double>(properties.totalGlobalMem) / (size_t{1} << 30) << " GiB, compute capability "
         << properties.major << "." << properties.minor << ", driver for CUDA " << version_text(driver);
    return text.str();
  }

  size_t staging_bytes() const override { return kSlots * kSlotBytes; }

  void start() override { use(); }
  void* queue() override { return compute_; }

  std::unique_ptr<Mark> mark() override {
    // What was queued before is to be waited for all the same.
    std::exception_ptr error;
    try {
      end_early();
    } catch (...) {
      error = std::current_exception();
    }
    use();
    cudaEvent_t event = nullptr;
    {
      const std::lock_guard lock(marking_);
      if (!marks_.empty()) {
        event = marks_.back();
        marks_.pop_back();
      }
    }
    if (!event) event = make_event(cudaEventBlockingSync);
    auto mark = std::make_unique<Passed>(*this, event, error);
    check_cuda(cudaEventRecord(event, compute_), "cudaEventRecord");
    return mark;
  }

 private:
  struct Slot {
    void* host = nullptr;  ///< pinned
    void* device = nullptr;
    cudaEvent_t host_free = nullptr;    ///< the last copy from or to `host` is done
    cudaEvent_t device_free = nullptr;  ///< what was in `device` has been taken to its place
  };

  /// A graph that can be launched.
  class Executable {
   public:
    Executable() = default;
    Executable(const Executable&) = delete;
    Executable& operator=(const Executable&) = delete;
    ~Executable() { destroy(); }

    /// Makes it launch what was captured.
    void take_over(cudaGraph_t captured) {
      if (exec_) {
        cudaGraphExecUpdateResultInfo result;
        const cudaError_t status = cudaGraphExecUpdate(exec_, captured, &result);
        if (status != cudaErrorGraphExecUpdateFailure) return check_cuda(status, "cudaGraphExecUpdate");
        cudaGetLastError();  // not sticky, and dealt with here
        destroy();
      }
      cudaGraphExec_t made = nullptr;
      check_cuda(cudaGraphInstantiate(&made, captured, 0), "cudaGraphInstantiate");
      exec_ = made;
    }
    void launch(cudaStream_t stream) { check_cuda(cudaGraphLaunch(exec_, stream), "cudaGraphLaunch"); }

   private:
    /// What still runs goes when it is done. Nothing is checked: a lost device refuses.
    void destroy() {
      if (exec_) cudaGraphExecDestroy(std::exchange(exec_, nullptr));
    }

    cudaGraphExec_t exec_ = nullptr;
  };

  struct Captured final : Graph {
    Executable last;
  };

  class Passed final : public Mark {
   public:
    /// `error`: to be thrown once it was waited for.
    Passed(Gpu& gpu, cudaEvent_t event, std::exception_ptr error)
        : gpu_(gpu), event_(event), error_(std::move(error)) {}
    ~Passed() override {
      const std::lock_guard lock(gpu_.marking_);
      gpu_.marks_.push_back(event_);
    }
    void wait() override {
      gpu_.use();
      check_cuda(cudaEventSynchronize(event_), "computing");
      if (error_) std::rethrow_exception(error_);
    }

   private:
    Gpu& gpu_;
    cudaEvent_t event_;
    std::exception_ptr error_;
  };

  /// CUDA's calls go to the calling thread's device.
  void use() const { check_cuda(cudaSetDevice(index_), "cudaSetDevice"); }

  /// Ends the capture, and launches what is in it as `executable`.
  void launch_captured(Executable& executable) {
    capturing_ = nullptr;
    use();
    cudaGraph_t captured = nullptr;
    check_cuda(cudaStreamEndCapture(compute_, &captured), "cudaStreamEndCapture");
    const std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, decltype(&cudaGraphDestroy)> owner(
        captured, &cudaGraphDestroy);
    size_t nodes = 0;
    check_cuda(cudaGraphGetNodes(captured, nullptr, &nodes), "cudaGraphGetNodes");
    if (nodes == 0) return;
    executable.take_over(captured);
    executable.launch(compute_);
    ++launches_;
  }

  /// For what cannot be captured. The next graph is likely to be whole, and finds the last whole one.
  void end_early() {
    Executable part;
    if (capturing_) launch_captured(part);
  }

  const Slot& next_slot() { return slots_[next_++ % kSlots]; }

  int index_;
  cudaStream_t compute_ = nullptr;
  cudaStream_t copies_ = nullptr;
  Captured* capturing_ = nullptr;
  std::atomic<size_t> launches_ = 0;
  std::mutex staging_;
  Slot slots_[kSlots];
  size_t next_ = 0;
  std::mutex marking_;
  std::vector<cudaEvent_t> marks_;  ///< to be used again
};

}  // namespace

int device_count() {
  // All kernels are loaded with the first call: later there may be no memory for their code.
  static const bool eager = setenv("CUDA_MODULE_LOADING", "EAGER", 0) == 0;
  (void)eager;
  int count = 0, driver = 0, runtime = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) {
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (driver == 0) {
      fail(ErrorCode::native, "CUDA: there is no NVIDIA driver on this machine. Install one for CUDA ",
           version_text(runtime), " or later, or use the device 'cpu'");
    }
    fail(ErrorCode::native, "CUDA: the NVIDIA driver is for CUDA ", version_text(driver),
         ", and this build needs one for CUDA ", version_text(runtime),
         " or later. Update the driver, or use the device 'cpu'");
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) {
    fail(ErrorCode::native,
         "CUDA: the NVIDIA driver sees no GPU. See nvidia-smi and CUDA_VISIBLE_DEVICES, or use the device "
         "'cpu'");
  }
  check_cuda(status, "cudaGetDeviceCount");
  return count;
}

std::shared_ptr<Engine> open_device(const EngineOptions& options) {
  const int count = device_count();
  check(options.index >= 0 && options.index < count, "CUDA: there is no device ", options.index,
        "; the machine has ", count, ", numbered from 0");
  const cudaDeviceProp properties = properties_of(options.index);
  if (10 * properties.major + properties.minor < kLeastCapability) {
    fail(ErrorCode::native, "CUDA: device ", options.index, ", ", properties.name,
         ", has compute capability ", properties.major, ".", properties.minor,
         "; 7.5 or later is needed. Use another, or the device 'cpu'");
  }
  const auto gpu = std::make_shared<Gpu>(options.index);
  gpu->open();
  return gpu;
}

}  // namespace glnet::cuda
