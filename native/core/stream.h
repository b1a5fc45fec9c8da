// An in-order queue of work with a thread of its own.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "core/engine.h"

namespace glnet {

class Stream {
 public:
  /// Work is queued on the engine from the stream's thread.
  explicit Stream(std::shared_ptr<Engine> engine);
  /// Stops: what is queued and not begun is dropped, what runs is waited for.
  ~Stream();

  /// Queues work. Once a task has thrown, the stream stays failed: what follows is skipped, since it may read
  /// what was never written.
  void enqueue(std::function<void()> task);
  /// Queues work that runs even after an error.
  void always(std::function<void()> task);
  /// Queues a callback that is called when what was queued before is done, and learns of the first error so
  /// far (nullptr if there was none). What is queued after does not wait for it. After an error it is called
  /// as soon as those before it were.
  void observe(std::function<void(std::exception_ptr)> callback);
  /// Waits for everything queued so far. Errors stay for the next `observe`.
  void drain();
  /// As the destructor; idempotent.
  void stop();

 private:
  using Report = std::function<void(std::exception_ptr)>;
  struct Task {
    std::function<void()> run;
    Report report;
    bool always = false;
  };
  struct Waiting {
    std::unique_ptr<Mark> mark;
    Report report;
  };
  void push(Task task);
  void loop();
  void spin() const;
  void wait_for_marks();
  void fail_with(std::exception_ptr error);
  std::exception_ptr error();

  std::shared_ptr<Engine> engine_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  std::condition_variable marked_;
  std::deque<Task> queue_;
  std::deque<Waiting> waiting_;
  std::atomic<bool> called_ = false;  ///< since the thread found nothing to do
  bool asleep_ = false;
  bool busy_ = false;
  bool stopping_ = false;
  std::exception_ptr error_;
  std::thread thread_;
  std::thread waiter_;  ///< only of an engine that gives marks
};

}  // namespace glnet
