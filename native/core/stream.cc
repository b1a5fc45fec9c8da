#include "core/stream.h"

#include <chrono>
#include <utility>

namespace glnet {
namespace {

/// To put a thread to sleep and wake it takes longer than most ops take to come one after the other.
constexpr std::chrono::microseconds kSpin{50};

}  // namespace

Stream::Stream(std::shared_ptr<Engine> engine) : engine_(std::move(engine)), thread_([this] { loop(); }) {}

Stream::~Stream() {
  stop();
}

void Stream::push(Task task) {
  bool asleep;
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(task));
    called_ = true;
    asleep = std::exchange(asleep_, false);
  }
  if (asleep) wake_.notify_one();
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
  always([this] {
    if (const auto mark = engine_->mark()) mark->wait();
  });
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return (queue_.empty() && !busy_) || stopping_; });
}

void Stream::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    called_ = true;
  }
  wake_.notify_one();
  marked_.notify_one();
  idle_.notify_all();
  if (thread_.joinable()) thread_.join();
  if (waiter_.joinable()) waiter_.join();
  queue_.clear();
  waiting_.clear();
}

void Stream::fail_with(std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  if (!error_) error_ = std::move(error);
}

std::exception_ptr Stream::error() {
  const std::lock_guard lock(mutex_);
  return error_;
}

/// Returns when something is called for, or after a while.
void Stream::spin() const {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  while (!called_ && std::chrono::steady_clock::now() < end) std::this_thread::yield();
}

void Stream::loop() {
  const auto attempt = [this](const auto& run) {
    try {
      run();
    } catch (...) {
      fail_with(std::current_exception());
    }
  };
  attempt([this] { engine_->start(); });
  std::unique_lock lock(mutex_);
  for (;;) {
    if (queue_.empty() && !stopping_) {
      called_ = false;
      lock.unlock();
      spin();
      lock.lock();
    }
    while (queue_.empty() && !stopping_) {
      asleep_ = true;
      wake_.wait(lock);
    }
    if (stopping_) break;
    Task task = std::move(queue_.front());
    queue_.pop_front();
    busy_ = true;
    const bool failed = error_ != nullptr;
    lock.unlock();
    if (task.report) {
      std::unique_ptr<Mark> mark;
      if (!failed) {
        attempt([&] {
          mark = engine_->mark();
          if (mark && !waiter_.joinable()) waiter_ = std::thread([this] { wait_for_marks(); });
        });
      }
      if (mark && waiter_.joinable()) {
        const std::lock_guard relock(mutex_);
        waiting_.push_back({std::move(mark), std::move(task.report)});
        marked_.notify_one();
      } else {
        // Those that wait for marks come first: callbacks keep their order.
        std::unique_lock relock(mutex_);
        idle_.wait(relock, [this] { return waiting_.empty() || stopping_; });
        relock.unlock();
        task.report(error());
      }
    } else if (!failed || task.always) {
      attempt(task.run);
    }
    task = {};
    lock.lock();
    busy_ = false;
    if (queue_.empty()) idle_.notify_all();
  }
  lock.unlock();
  // What the engine still does touches memory that will go.
  attempt([this] {
    if (const auto mark = engine_->mark()) mark->wait();
  });
}

void Stream::wait_for_marks() {
  std::unique_lock lock(mutex_);
  for (;;) {
    marked_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (stopping_) return;
    // Stays in the list until it was reported, so that others see that something waits.
    Waiting& next = waiting_.front();
    lock.unlock();
    try {
      next.mark->wait();
    } catch (...) {
      fail_with(std::current_exception());
    }
    next.report(error());
    lock.lock();
    if (stopping_) return;
    waiting_.pop_front();
    if (waiting_.empty()) idle_.notify_all();
  }
}

}  // namespace glnet
