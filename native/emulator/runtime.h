// The part of CUDA's runtime that native/cuda calls, for kernels that the emulator runs: devices, memory,
// streams, events, copies, graphs.
//
// Work on a stream does not run when it is queued, but when somebody waits for it; among several streams
// whose next piece could run, the schedule chooses. Copies to and from the host take pinned memory only and
// read it when they run, so that memory which is used again too early gives wrong results under some
// schedule. A kernel that fails loses the device, as in CUDA: every later call fails.
//
// The environment says what machine is emulated, so that a whole program can be tested on it:
//   GLNET_EMULATOR_DEVICES=N     this many devices; default 2, 0 for none
//   GLNET_EMULATOR_MEMORY=BYTES  of each; default 64 GiB
//   GLNET_EMULATOR_FAULT=        no-driver, old-driver, or lost:N: the Nth launch on device 0 loses it
//   GLNET_EMULATOR_DRY=1         kernels and copies do nothing, and memory is not backed: to plan, not
//   compute
#pragma once

#include <cstddef>

#include "emulator/emulator.h"

namespace glnet::emulator {

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorStreamCaptureIsolation = 905,
  cudaErrorGraphExecUpdateFailure = 910,
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2, cudaMemcpyDeviceToDevice = 3 };
inline constexpr unsigned cudaStreamNonBlocking = 1;
inline constexpr unsigned cudaEventDefault = 0, cudaEventBlockingSync = 1, cudaEventDisableTiming = 2;

struct cudaPointerAttributes {
  int device;
};

enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
struct cudaGraphExecUpdateResultInfo {};

struct CapturedGraph;
using cudaGraph_t = CapturedGraph*;
struct GraphNode;
using cudaGraphNode_t = GraphNode*;
struct ExecutableGraph;
using cudaGraphExec_t = ExecutableGraph*;
struct Event;
using cudaEvent_t = Event*;
struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor;
};

const char* cudaGetErrorName(cudaError_t error);
/// Of a lost device, what the kernel did wrong.
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();

cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);

cudaError_t cudaMalloc(void** data, size_t bytes);
cudaError_t cudaFree(void* data);
cudaError_t cudaMallocHost(void** data, size_t bytes);
cudaError_t cudaFreeHost(void* data);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t stream);

// Of graphs: what a single stream captures from one thread, in a line. While it does, that thread may call
// nothing that waits, takes memory or has to do with events (stricter than CUDA, which captures them).
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long flags = 0);
/// Refuses where the nodes are others, or of other kinds.
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo* result);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);

/// What was done with graphs, for tests.
struct GraphCounts {
  int instantiated = 0, updated = 0, launched = 0;
  int alive = 0;  ///< executable ones
};
GraphCounts graph_counts();

/// Whether nothing is computed, see GLNET_EMULATOR_DRY.
bool is_dry();
/// Whether the bytes lie in one block of a device's memory.
bool on_device(const void* data, size_t bytes);

/// Forgets devices lost and launches counted, and reads the environment anew: for tests.
void reset_machine();

}  // namespace glnet::emulator
