#include "core/stream.h"

#include <utility>

namespace glnet {

Stream::Stream(std::function<void()> start) : start_(std::move(start)), thread_([this] { loop(); }) {}

Stream::~Stream() {
  stop();
}

void Stream::push(Task task) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(task));
  }
  wake_.notify_one();
}

void Stream::enqueue(std::function<void()> task) {
  push({std::move(task), {}});
}

void Stream::always(std::function<void()> task) {
  push({std::move(task), {}, true});
}

void Stream::observe(std::function<void(std::exception_ptr)> callback) {
  push({{}, std::move(callback)});
}

void Stream::drain() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return (queue_.empty() && !busy_) || stopping_; });
}

void Stream::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  idle_.notify_all();
  if (thread_.joinable()) thread_.join();
  queue_.clear();
}

void Stream::loop() {
  if (start_) start_();
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (stopping_) return;
    Task task = std::move(queue_.front());
    queue_.pop_front();
    busy_ = true;
    lock.unlock();
    if (task.report) {
      task.report(error_);
    } else if (!error_ || task.always) {
      try {
        task.run();
      } catch (...) {
        error_ = std::current_exception();
      }
    }
    task = {};
    lock.lock();
    busy_ = false;
    if (queue_.empty()) idle_.notify_all();
  }
}

}  // namespace glnet
