// What ran on a device, and when.
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "core/engine.h"
#include "core/shape.h"

namespace glnet {

class Trace {
 public:
  struct Event {
    const char* op;
    std::string shapes;  ///< of what was read and written
    double begin, end;   ///< seconds on the system's monotonic clock
    double multiply_adds;
  };

  /// Begins to record, anew.
  void start() {
    const std::scoped_lock lock(mutex_);
    on_ = true;
    events_.clear();
  }

  bool on() const {
    const std::scoped_lock lock(mutex_);
    return on_;
  }

  /// Stops; returns what ran since the start.
  std::vector<Event> stop() {
    const std::scoped_lock lock(mutex_);
    on_ = false;
    return std::exchange(events_, {});
  }

  /// Runs a kernel and records it. An engine with a queue is waited for, so that times are the kernel's own.
  void record(Engine& engine, Event event, const std::function<void()>& kernel) {
    event.begin = now();
    kernel();
    if (const auto mark = engine.mark()) mark->wait();
    event.end = now();
    const std::scoped_lock lock(mutex_);
    if (on_) events_.push_back(std::move(event));
  }

 private:
  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }

  mutable std::mutex mutex_;
  bool on_ = false;
  std::vector<Event> events_;
};

}  // namespace glnet
