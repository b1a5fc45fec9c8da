// An in-order queue of work with a thread of its own.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace glnet {

class Stream {
 public:
  /// `start` runs first on the stream's thread, for thread-local set-up.
  explicit Stream(std::function<void()> start = {});
  /// Stops: what is queued and not begun is dropped, what runs is waited for.
  ~Stream();

  /// Queues work. Once a task has thrown, the stream stays failed: what follows is skipped, since it may read
  /// what was never written.
  void enqueue(std::function<void()> task);
  /// Queues work that runs even after an error, and must not throw.
  void always(std::function<void()> task);
  /// Queues a callback that learns of the first error so far (nullptr if there was none).
  void observe(std::function<void(std::exception_ptr)> callback);
  /// Waits for everything queued so far. Errors stay for the next `observe`.
  void drain();
  /// As the destructor; idempotent.
  void stop();

 private:
  struct Task {
    std::function<void()> run;
    std::function<void(std::exception_ptr)> report;
    bool always = false;
  };
  void push(Task task);
  void loop();

  std::function<void()> start_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  std::deque<Task> queue_;
  bool busy_ = false;
  bool stopping_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace glnet
