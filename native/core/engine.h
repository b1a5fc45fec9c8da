// How a device executes: where its memory comes from, how data gets there and back, and how far its work is.
//
// Work is queued from the thread of the device's Stream, in order. On the host it is done when its call
// returns; an engine with a queue of its own only promises the order, and `mark` and `wait` tell when.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

namespace glnet {

/// A point in an engine's queue.
class Mark {
 public:
  virtual ~Mark() = default;
  /// Returns when everything queued before is done; throws what went wrong with it. On any thread.
  virtual void wait() = 0;
};

/// Work that is queued again and again: the same launches, with other arguments.
class Graph {
 public:
  virtual ~Graph() = default;
};

class Engine {
 public:
  virtual ~Engine() = default;

  // On any thread; but what touches memory only while no queued work does.

  /// Memory of the device, aligned to 64 bytes; nullptr if there is none left.
  virtual void* allocate(size_t bytes) = 0;
  /// Only called when no queued work can touch the memory.
  virtual void release(void* data, size_t bytes) = 0;
  /// Room for as much as the device has, which takes memory only where it is touched; its size is set.
  /// nullptr if there is no such thing here. It goes by `release`.
  virtual void* reserve(size_t& bytes) {
    bytes = 0;
    return nullptr;
  }
  /// Gives the memory of a part of such room back, with its values. As `release`.
  virtual void discard(void* /*data*/, size_t /*bytes*/) {}
  virtual void fill(void* to, int byte, size_t bytes) = 0;
  /// Returns when the data has arrived.
  virtual void download(void* to, const void* from, size_t bytes) = 0;

  /// What computes: a line for people.
  virtual std::string description() const = 0;
  /// For Context::stream; nullptr if work is done when its call returns.
  virtual void* queue() { return nullptr; }
  /// For `begin`; nullptr if work is as quick one by one.
  virtual std::shared_ptr<Graph> make_graph() { return nullptr; }
  /// How often graphs were queued.
  virtual size_t graph_launches() const { return 0; }
  /// Bytes of buffers through which data goes to the device and back, beside the pool; on each side.
  virtual size_t staging_bytes() const { return 0; }

  // On the stream's thread.

  /// Called first.
  virtual void start() {}
  /// Threads that may call `upload` at once, for different memory.
  virtual int upload_threads() const { return 1; }
  /// What `from` points to may go when the call returns.
  virtual void upload(void* to, const void* from, size_t bytes) = 0;
  /// From here to `end`, work is collected and comes to the queue in one piece. What cannot be a part of it
  /// (`upload`, `download`, `mark`) ends it early: the rest comes one by one.
  virtual void begin(Graph& /*graph*/) {}
  virtual void end() {}
  /// nullptr if everything queued so far is done.
  virtual std::unique_ptr<Mark> mark() { return nullptr; }
};

/// Which of the devices of a kind, and what it may use.
struct EngineOptions {
  int index = 0;
  int threads = 1;
};

/// The host: memory straight from the system, kernels that compute when called.
std::shared_ptr<Engine> open_host(const EngineOptions& options);

}  // namespace glnet
