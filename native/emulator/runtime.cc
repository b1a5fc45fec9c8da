#include "emulator/runtime.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

namespace glnet::emulator {

struct Event {
  uint64_t recorded = 0;   ///< how often it was queued
  uint64_t completed = 0;  ///< the latest of these that was passed
};

/// A piece of work of a stream or a graph.
struct Work {
  enum class Kind { kernel, copy, fill, event };
  Kind kind;
  std::function<void()> run;
  const Event* event = nullptr;  ///< waits for this,
  uint64_t record = 0;           ///< recorded this often

  bool ready() const { return !event || event->completed >= record; }
};

struct CapturedGraph {
  std::vector<Work> nodes;
};

struct ExecutableGraph {
  std::vector<Work> nodes;
  uint64_t launched = 0, completed = 0;  ///< how often it was queued, and has run to its end
  bool destroyed = false;                ///< goes when it is done
};

struct Stream {
  int device = 0;
  std::deque<Work> queue = {};
  std::unique_ptr<CapturedGraph> captured = nullptr;  ///< while it captures
  cudaError_t capture_error = cudaSuccess;            ///< what has spoilt it
};

namespace {

enum class Fault { none, no_driver, old_driver, lost };
enum class Place { device, pinned };

struct Block {
  size_t bytes;
  Place place;
  int device;
};

/// The machine that is emulated.
struct Machine {
  int devices = 2;
  size_t memory = size_t{64} << 30;
  Fault fault = Fault::none;
  int64_t launches_left = 0;  ///< until the device is lost
  bool dry = false;
  std::map<int, std::string> lost;  ///< why every call to a device fails, if it does

  Machine() {
    const auto text = [](const char* name) {
      const char* value = std::getenv(name);
      return std::string(value ? value : "");
    };
    if (const auto value = text("GLNET_EMULATOR_DEVICES"); !value.empty()) devices = std::atoi(value.c_str());
    if (const auto value = text("GLNET_EMULATOR_MEMORY"); !value.empty()) {
      memory = std::strtoull(value.c_str(), nullptr, 10);
    }
    dry = text("GLNET_EMULATOR_DRY") == "1";
    const auto fault_name = text("GLNET_EMULATOR_FAULT");
    if (fault_name == "no-driver") fault = Fault::no_driver;
    if (fault_name == "old-driver") fault = Fault::old_driver;
    if (fault_name.starts_with("lost:")) {
      fault = Fault::lost;
      launches_left = std::atoll(fault_name.c_str() + 5);
    }
  }
};

// Guards what is queued and runs. The other, which is never held for long, guards the books.
// Nothing is destroyed: a stream's thread may still run while the process exits.
std::recursive_mutex work_mutex;
auto& streams = *new std::vector<Stream*>;
std::mt19937_64 choice;

std::mutex machine_mutex;
auto& blocks = *new std::map<std::byte*, Block>;
auto& allocated = *new std::map<int, size_t>;  ///< bytes, by device
thread_local int current_device = 0;
/// The stream that captures what this thread does.
thread_local Stream* capturing = nullptr;
GraphCounts counts;  ///< with the work locked

Machine& machine() {
  static auto& instance = *new Machine;
  return instance;
}

cudaError_t lose(int device, const std::string& why) {
  const std::lock_guard lock(machine_mutex);
  machine().lost.try_emplace(device, why);
  return cudaErrorLaunchFailure;
}

/// Whether the calling thread's device is lost.
bool is_lost() {
  const std::lock_guard lock(machine_mutex);
  return machine().lost.contains(current_device);
}

/// The block of this kind in which the bytes lie; the end if they lie in none. With the books locked.
std::map<std::byte*, Block>::const_iterator block_of(const void* data, size_t bytes, Place place) {
  auto* first = static_cast<std::byte*>(const_cast<void*>(data));
  auto entry = blocks.upper_bound(first);
  if (entry == blocks.begin()) return blocks.end();
  --entry;
  const bool inside = entry->second.place == place && first + bytes <= entry->first + entry->second.bytes;
  return inside ? entry : blocks.end();
}

bool within(const void* data, size_t bytes, Place place) {
  const std::lock_guard lock(machine_mutex);
  return block_of(data, bytes, place) != blocks.end();
}

/// A stream whose next work can run; nullptr if there is none.
Stream* choose() {
  std::vector<Stream*> ready;
  for (Stream* stream : streams) {
    if (!stream->queue.empty() && stream->queue.front().ready()) ready.push_back(stream);
  }
  if (ready.empty()) return nullptr;
  switch (schedule().order) {
    case Schedule::Order::forward:
      return ready.front();
    case Schedule::Order::reverse:
      return ready.back();
    case Schedule::Order::random:
      return ready[choice() % ready.size()];
  }
  return nullptr;
}

/// Runs what is queued until `done`.
template <class Done>
cudaError_t run_until(Done&& done) {
  const std::lock_guard lock(work_mutex);
  while (!done()) {
    if (is_lost()) return cudaErrorLaunchFailure;
    Stream* stream = choose();
    if (!stream) {
      return lose(current_device,
                  "streams wait for each other: an event that is waited for is never reached");
    }
    const int device = stream->device;
    const auto run = std::move(stream->queue.front().run);
    stream->queue.pop_front();
    try {
      if (run) run();
    } catch (const std::exception& error) {
      stream->queue.clear();
      lose(device, error.what());
    }
  }
  return is_lost() ? cudaErrorLaunchFailure : cudaSuccess;
}

/// What a call returns that no capture can take.
cudaError_t spoil(Stream* stream, cudaError_t error) {
  const std::lock_guard lock(work_mutex);
  if (stream->capture_error == cudaSuccess) stream->capture_error = cudaErrorStreamCaptureInvalidated;
  return error;
}

/// Of calls that wait or take memory: an error if this thread captures.
cudaError_t check_not_capturing() {
  return capturing ? spoil(capturing, cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t queue(cudaStream_t stream, Work work) {
  if (is_lost()) return cudaErrorLaunchFailure;
  if (stream->device != current_device) return cudaErrorInvalidResourceHandle;
  const std::lock_guard lock(work_mutex);
  if (!stream->captured) {
    stream->queue.push_back(std::move(work));
  } else if (work.event) {
    return spoil(stream, cudaErrorStreamCaptureIsolation);
  } else if (work.kind == Work::Kind::event) {
    return spoil(stream, cudaErrorStreamCaptureUnsupported);
  } else if (stream->capture_error != cudaSuccess) {
    return stream->capture_error;
  } else {
    stream->captured->nodes.push_back(std::move(work));
  }
  return cudaSuccess;
}

cudaError_t take(void** data, size_t bytes, Place place) {
  if (const cudaError_t error = check_not_capturing()) return error;
  if (is_lost()) return cudaErrorLaunchFailure;
  const std::lock_guard lock(machine_mutex);
  const bool on_device = place == Place::device;
  if (on_device && allocated[current_device] + bytes > machine().memory) return cudaErrorMemoryAllocation;
  // From the heap, so that AddressSanitizer sees what kernels touch outside a block.
  void* memory = machine().dry ? mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                               : std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (!memory || memory == MAP_FAILED) return cudaErrorMemoryAllocation;
  if (on_device) allocated[current_device] += bytes;
  blocks[static_cast<std::byte*>(memory)] = {bytes, place, current_device};
  *data = memory;
  return cudaSuccess;
}

cudaError_t give(void* data, Place place) {
  if (const cudaError_t error = check_not_capturing()) return error;
  const std::lock_guard lock(machine_mutex);
  const auto entry = blocks.find(static_cast<std::byte*>(data));
  if (entry == blocks.end() || entry->second.place != place) return cudaErrorInvalidValue;
  if (place == Place::device) allocated[entry->second.device] -= entry->second.bytes;
  if (machine().dry) {
    munmap(data, entry->second.bytes);
  } else {
    std::free(data);
  }
  blocks.erase(entry);
  return cudaSuccess;
}

}  // namespace

namespace detail {

void submit(cudaStream_t stream, std::function<void()> kernel) {
  if (!stream) return kernel();
  {
    const std::lock_guard lock(machine_mutex);
    Machine& m = machine();
    if (m.fault == Fault::lost && stream->device == 0 && m.launches_left-- <= 0) {
      m.lost.try_emplace(0, "the device was lost");
    }
    if (m.dry) return;
  }
  if (queue(stream, {Work::Kind::kernel, std::move(kernel)}) == cudaErrorInvalidResourceHandle) {
    fail(ErrorCode::native, "emulator: a launch on a stream of device ", stream->device, " while device ",
         current_device, " is the current one");
  }
}

}  // namespace detail

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInsufficientDriver:
      return "cudaErrorInsufficientDriver";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorNoKernelImageForDevice:
      return "cudaErrorNoKernelImageForDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureIsolation:
      return "cudaErrorStreamCaptureIsolation";
    case cudaErrorGraphExecUpdateFailure:
      return "cudaErrorGraphExecUpdateFailure";
  }
  return "unknown";
}

const char* cudaGetErrorString(cudaError_t error) {
  if (error != cudaErrorLaunchFailure) return "of the emulator";
  const std::lock_guard lock(machine_mutex);
  // Stays as it is once it is set.
  const auto entry = machine().lost.find(current_device);
  return entry == machine().lost.end() ? "of the emulator" : entry->second.c_str();
}

cudaError_t cudaGetLastError() {
  return is_lost() ? cudaErrorLaunchFailure : cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  const Fault fault = machine().fault;
  *version = fault == Fault::no_driver ? 0 : fault == Fault::old_driver ? 11040 : 13000;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  const Machine& m = machine();
  if (m.fault == Fault::no_driver || m.fault == Fault::old_driver) return cudaErrorInsufficientDriver;
  if (m.devices == 0) return cudaErrorNoDevice;
  *count = m.devices;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device < 0 || device >= machine().devices) return cudaErrorInvalidDevice;
  *properties = {"emulated device", machine().memory, 9, 0};
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= machine().devices) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  return take(data, bytes, Place::device);
}

cudaError_t cudaFree(void* data) {
  return give(data, Place::device);
}

cudaError_t cudaMallocHost(void** data, size_t bytes) {
  return take(data, bytes, Place::pinned);
}

cudaError_t cudaFreeHost(void* data) {
  return give(data, Place::pinned);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data) {
  const std::lock_guard lock(machine_mutex);
  const auto block = block_of(data, 1, Place::device);
  if (block == blocks.end()) return cudaErrorInvalidValue;
  attributes->device = block->second.device;
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  if (is_lost()) return cudaErrorLaunchFailure;
  const std::lock_guard lock(work_mutex);
  choice.seed(schedule().seed);
  streams.push_back(*stream = new Stream{current_device});
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const std::lock_guard lock(work_mutex);
  std::erase(streams, stream);
  delete stream;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (const cudaError_t error = check_not_capturing()) return error;
  const std::lock_guard lock(work_mutex);
  if (stream->captured) return spoil(stream, cudaErrorStreamCaptureUnsupported);
  return run_until([&] { return stream->queue.empty(); });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const std::lock_guard lock(work_mutex);
  return queue(stream, {Work::Kind::event, {}, event, event->recorded});
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new Event;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  // Work that is still queued may name it.
  const std::lock_guard lock(work_mutex);
  for (Stream* stream : streams) {
    for (auto& work : stream->queue) {
      if (work.event == event) work.event = nullptr;
    }
  }
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::lock_guard lock(work_mutex);
  const uint64_t record = event->recorded + 1;
  const cudaError_t error =
      queue(stream,
            {Work::Kind::event, [event, record] { event->completed = std::max(event->completed, record); }});
  if (error == cudaSuccess) event->recorded = record;
  return error;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (const cudaError_t error = check_not_capturing()) return error;
  const uint64_t record = [&] {
    const std::lock_guard lock(work_mutex);
    return event->recorded;
  }();
  return run_until([&] { return event->completed >= record; });
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const Place target = kind == cudaMemcpyDeviceToHost ? Place::pinned : Place::device;
  const Place source = kind == cudaMemcpyHostToDevice ? Place::pinned : Place::device;
  if (!within(to, bytes, target) || !within(from, bytes, source)) return cudaErrorInvalidValue;
  if (machine().dry) return cudaSuccess;
  return queue(stream, {Work::Kind::copy, [=] { std::memcpy(to, from, bytes); }});
}

cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t stream) {
  if (!within(to, bytes, Place::device)) return cudaErrorInvalidValue;
  if (machine().dry) return cudaSuccess;
  return queue(stream, {Work::Kind::fill, [=] { std::memset(to, byte, bytes); }});
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (is_lost()) return cudaErrorLaunchFailure;
  const std::lock_guard lock(work_mutex);
  if (stream->captured || capturing) return cudaErrorInvalidValue;
  stream->captured = std::make_unique<CapturedGraph>();
  stream->capture_error = cudaSuccess;
  capturing = stream;
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  const std::lock_guard lock(work_mutex);
  *graph = nullptr;
  if (!stream->captured || capturing != stream) return cudaErrorInvalidValue;
  capturing = nullptr;
  std::unique_ptr<CapturedGraph> captured = std::move(stream->captured);
  if (is_lost()) return cudaErrorLaunchFailure;
  if (stream->capture_error != cudaSuccess) return stream->capture_error;
  *graph = captured.release();
  return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (nodes) return cudaErrorInvalidValue;
  *count = graph->nodes.size();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  if (const cudaError_t error = check_not_capturing()) return error;
  const std::lock_guard lock(work_mutex);
  *exec = new ExecutableGraph{graph->nodes};
  ++counts.instantiated;
  ++counts.alive;
  return cudaSuccess;
}

cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo*) {
  const std::lock_guard lock(work_mutex);
  const auto same_kind = [](const Work& a, const Work& b) { return a.kind == b.kind; };
  if (!std::ranges::equal(exec->nodes, graph->nodes, same_kind)) return cudaErrorGraphExecUpdateFailure;
  exec->nodes = graph->nodes;
  ++counts.updated;
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  const std::lock_guard lock(work_mutex);
  if (is_lost()) return cudaErrorLaunchFailure;
  if (stream->captured) return spoil(stream, cudaErrorStreamCaptureUnsupported);
  if (stream->device != current_device) return cudaErrorInvalidResourceHandle;
  // As it is now: updates after this are of later launches.
  stream->queue.insert(stream->queue.end(), exec->nodes.begin(), exec->nodes.end());
  const uint64_t launch = ++exec->launched;
  stream->queue.push_back({Work::Kind::event, [exec, launch] {
                             exec->completed = launch;
                             if (exec->destroyed && launch == exec->launched) delete exec;
                           }});
  ++counts.launched;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  const std::lock_guard lock(work_mutex);
  --counts.alive;
  // After a loss nothing that is queued runs.
  if (exec->completed == exec->launched || is_lost()) {
    delete exec;
  } else {
    exec->destroyed = true;
  }
  return cudaSuccess;
}

GraphCounts graph_counts() {
  const std::lock_guard lock(work_mutex);
  return counts;
}

bool is_dry() {
  return machine().dry;
}

bool on_device(const void* data, size_t bytes) {
  return within(data, bytes, Place::device);
}

void reset_machine() {
  const std::lock_guard lock(machine_mutex);
  machine() = Machine();
}

}  // namespace glnet::emulator
