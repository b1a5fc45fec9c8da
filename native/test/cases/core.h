// Tests of the core itself: pool and stream.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <future>
#include <stdexcept>
#include <vector>

#include "test/harness.h"

namespace glnet::test {

/// Collects what a test finds wrong.
class Findings {
 public:
  template <class A, class B>
  void equal(const char* what, const A& got, const B& expected) {
    if (got == static_cast<A>(expected)) return;
    text_ << what << " is " << got << ", expected " << expected << "; ";
  }
  void holds(const char* what, bool ok) {
    if (!ok) text_ << "not so: " << what << "; ";
  }
  std::string text() const { return text_.str(); }

 private:
  std::ostringstream text_;
};

/// Memory from the heap, counted.
struct CountingEngine : Engine {
  size_t allocations = 0, releases = 0, held = 0, most = SIZE_MAX;

  void* allocate(size_t bytes) override {
    if (bytes > most - held) return nullptr;
    ++allocations;
    held += bytes;
    return std::aligned_alloc(64, bytes);
  }
  void release(void* data, size_t bytes) override {
    ++releases;
    held -= bytes;
    std::free(data);
  }
  void fill(void* to, int byte, size_t bytes) override { std::memset(to, byte, bytes); }
  void upload(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void download(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  std::string description() const override { return "for tests"; }
};

/// One that has room to grow in, and notes what was discarded of it.
struct RoomyEngine final : CountingEngine {
  size_t rooms = 0, discarded = 0;

  void* reserve(size_t& bytes) override {
    ++rooms;
    return allocate(bytes = size_t{64} << 20);
  }
  void discard(void*, size_t bytes) override { discarded += bytes; }
};

/// Notes what the stream asks of it; with marks, work is done when `passed` says so.
struct StreamEngine final : CountingEngine {
  std::thread::id started;
  bool marks = false;
  std::deque<std::promise<void>> passed;  ///< of the marks, in their order

  void start() override { started = std::this_thread::get_id(); }
  std::unique_ptr<Mark> mark() override {
    if (!marks) return nullptr;
    struct Passed final : Mark {
      std::future<void> future;
      explicit Passed(std::future<void> f) : future(std::move(f)) {}
      void wait() override { future.get(); }
    };
    return std::make_unique<Passed>(passed.at(given++).get_future());
  }

 private:
  size_t given = 0;
};

constexpr size_t kMebibyte = size_t{1} << 20;

/// The message with which `run` fails, which must have this code.
template <class Run>
std::string message_of(ErrorCode code, Run&& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.code() == code ? error.what() : std::string("an error of another code: ") + error.what();
  }
  return "no error";
}

/// What a child process that writes at data[offset] of a guarded block of 100 bytes prints before it ends,
/// and whether it ended by abort().
inline std::pair<std::string, bool> overrun(int64_t offset) {
  int ends[2];
  if (pipe(ends)) throw std::runtime_error("pipe failed");
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    const auto engine = std::make_shared<CountingEngine>();
    Pool pool(engine, [] {}, true);
    auto* data = static_cast<unsigned char*>(pool.take(100, "test"));
    data[offset] ^= 1;
    pool.give(data);
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char part[256];
  for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;) text.append(part, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return {text, WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT};
}

inline void pool_cases(Suite& suite) {
  suite.direct("core", "pool: counters", [](Device&) {
    Findings wrong;
    const auto engine = std::make_shared<CountingEngine>();
    Pool pool(engine, [] {});
    void* a = pool.take(100, "test");
    void* b = pool.take(kMebibyte, "test");
    wrong.equal("active", pool.counters().active, kMebibyte + 128);
    wrong.equal("blocks", pool.counters().blocks, 2);
    wrong.equal("cached", pool.counters().cached, 7 * kMebibyte - 128);
    wrong.equal("alignment", reinterpret_cast<uintptr_t>(b) % 64, 0);
    pool.give(a);
    pool.give(b);
    wrong.equal("active", pool.counters().active, 0);
    wrong.equal("peak", pool.counters().peak, kMebibyte + 128);
    wrong.equal("reserved", pool.counters().reserved, 8 * kMebibyte);
    pool.reset_peak();
    wrong.equal("peak after its reset", pool.counters().peak, 0);
    pool.give(pool.take(1, "test"));
    wrong.equal("peak of a small block", pool.counters().peak, 64);
    wrong.equal("allocations", engine->allocations, 1);
    return wrong.text();
  });
  suite.direct("core", "pool: room that grows", [](Device&) {
    Findings wrong;
    const auto engine = std::make_shared<RoomyEngine>();
    {
      Pool pool(engine, [] {});
      void* a = pool.take(3 * kMebibyte, "test");
      void* b = pool.take(5 * kMebibyte, "test");
      wrong.equal("reserved", pool.counters().reserved, 8 * kMebibyte);
      void* weight = pool.take(3 * kMebibyte, "test", Lifetime::lasting);
      wrong.equal("rooms", engine->rooms, 2);
      wrong.equal("reserved", pool.counters().reserved, 12 * kMebibyte);
      pool.give(b);
      pool.give(weight);
      wrong.holds("the end is free, and grows", pool.take(6 * kMebibyte, "test") == b);
      wrong.equal("reserved", pool.counters().reserved, 14 * kMebibyte);
      void* small = pool.take(64, "test");
      pool.give(a);
      pool.give(b);
      pool.trim();
      wrong.equal("discarded: the weight's room, and what follows the small block", engine->discarded,
                  5 * kMebibyte - 64);
      wrong.equal("cached: what is before it", pool.counters().cached, 9 * kMebibyte);
      wrong.holds("the first that fits", pool.take(4 * kMebibyte, "test") == a);
      pool.give(a);
      pool.set_limit(10 * kMebibyte);
      void* last = pool.take(kMebibyte - 128, "test");
      wrong.holds("near the limit, what is asked for", last == a);
      wrong.holds("beyond it, nothing", message_of(ErrorCode::out_of_memory,
                                                   [&] { pool.take(9 * kMebibyte, "test"); }) != "no error");
      pool.give(last);
      pool.give(small);
    }
    wrong.equal("held in the end", engine->held, 0);
    return wrong.text();
  });
  suite.direct("core", "pool: a block that was given back is taken again", [](Device&) {
    Findings wrong;
    const auto engine = std::make_shared<CountingEngine>();
    Pool pool(engine, [] {});
    void* keep = pool.take(kMebibyte, "test");
    void* a = pool.take(3 * kMebibyte, "test");
    void* wall = pool.take(64, "test");
    pool.give(a);
    wrong.holds("the best fit is the block just given back", pool.take(3 * kMebibyte - 100, "test") == a);
    void* large = pool.take(20 * kMebibyte, "test");
    wrong.equal("allocations", engine->allocations, 2);
    for (void* p : {keep, a, wall, large}) pool.give(p);
    return wrong.text();
  });
  suite.direct("core", "pool: neighbours become one block, in whatever order they come back", [](Device&) {
    Findings wrong;
    std::vector<int> order{0, 1, 2, 3};
    const auto engine = std::make_shared<CountingEngine>();
    do {
      engine->allocations = 0;
      Pool pool(engine, [] {});
      void* blocks[4];
      for (void*& block : blocks) block = pool.take(2 * kMebibyte, "test");
      for (const int i : order) pool.give(blocks[i]);
      pool.give(pool.take(8 * kMebibyte, "test"));
      wrong.equal("allocations", engine->allocations, 1);
    } while (std::next_permutation(order.begin(), order.end()));
    wrong.equal("bytes not released", engine->held, 0);
    return wrong.text();
  });
  suite.direct("core", "pool: the limit", [](Device&) {
    Findings wrong;
    const auto engine = std::make_shared<CountingEngine>();
    Pool pool(engine, [] {});
    pool.set_limit(10 * kMebibyte);
    void* a = pool.take(kMebibyte, "test");
    wrong.equal(
        "message", message_of(ErrorCode::out_of_memory, [&] { pool.take(9 * kMebibyte, "conv2d"); }),
        "conv2d needs 9.0 MiB; in use are 1.0 MiB, the largest free block has 7.0 MiB, and the limit is 10.0 "
        "MiB. Raise the memory limit, or lower the batch size");
    wrong.equal("active after the refusal", pool.counters().active, kMebibyte);
    void* b = pool.take(7 * kMebibyte, "test");
    // 2 MiB are left: less than a usual segment.
    void* c = pool.take(2 * kMebibyte, "test");
    wrong.equal("held", engine->held, 10 * kMebibyte);
    for (void* p : {a, b, c}) pool.give(p);
    // What is cached makes room for a larger block.
    pool.give(pool.take(10 * kMebibyte, "test"));
    wrong.equal("reserved", pool.counters().reserved, 10 * kMebibyte);
    return wrong.text();
  });
  suite.direct("core", "pool: the device's refusal", [](Device&) {
    Findings wrong;
    const auto engine = std::make_shared<CountingEngine>();
    engine->most = 16 * kMebibyte;
    Pool pool(engine, [] {});
    void* a = pool.take(12 * kMebibyte, "test");
    const std::string message =
        message_of(ErrorCode::out_of_memory, [&] { pool.take(6 * kMebibyte, "resize"); });
    wrong.holds(message.c_str(), message.find("resize needs 6.0 MiB") == 0 &&
                                     message.find("the device has no more memory") != std::string::npos);
    pool.give(a);
    pool.give(pool.take(16 * kMebibyte, "test"));
    return wrong.text();
  });
  suite.direct("core", "pool: trim", [](Device&) {
    Findings wrong;
    int drained = 0;
    const auto engine = std::make_shared<CountingEngine>();
    Pool pool(engine, [&] {
      ++drained;
      if (engine->releases) drained += 100;
    });
    void* a = pool.take(9 * kMebibyte, "test");
    void* b = pool.take(9 * kMebibyte, "test");
    pool.trim();
    wrong.equal("releases of what is in use", engine->releases, 0);
    pool.give(a);
    pool.trim();
    wrong.equal("drains, before the release", drained, 1);
    wrong.equal("releases", engine->releases, 1);
    wrong.equal("cached", pool.counters().cached, kMebibyte);
    pool.give(b);
    pool.trim();
    wrong.equal("held", engine->held, 0);
    return wrong.text();
  });
  suite.direct("core", "pool: memory that was not taken", [](Device&) {
    Findings wrong;
    const auto engine = std::make_shared<CountingEngine>();
    Pool pool(engine, [] {});
    void* a = pool.take(64, "test");
    pool.give(a);
    wrong.equal("message", message_of(ErrorCode::native, [&] { pool.give(a); }),
                "pool: memory given back that was not taken");
    return wrong.text();
  });
  suite.direct(
      "core", "pool: guarded blocks start as NaN, and a write outside ends the program", [](Device&) {
        Findings wrong;
        const auto engine = std::make_shared<CountingEngine>();
        Pool pool(engine, [] {}, true);
        auto* data = static_cast<float*>(pool.take(100, "test"));
        for (int i = 0; i < 25; ++i) wrong.holds("a NaN", data[i] != data[i]);
        pool.give(data);
        wrong.equal("held", engine->held, 0);
        for (const int64_t inside : {0, 99}) {
          const auto [text, aborted] = overrun(inside);
          wrong.equal("output", text, "");
          wrong.holds("a write inside is no error", !aborted);
        }
        const auto [past, aborted_past] = overrun(100);
        wrong.equal("output", past, "glnet: a kernel wrote 1 bytes past its block of 100 bytes\n");
        wrong.holds("a write past the block aborts", aborted_past);
        const auto [before, aborted_before] = overrun(-4);
        wrong.equal("output", before, "glnet: a kernel wrote 4 bytes before its block of 100 bytes\n");
        wrong.holds("a write before the block aborts", aborted_before);
        return wrong.text();
      });
}

inline void stream_cases(Suite& suite) {
  suite.direct("core", "stream: order", [](Device&) {
    Findings wrong;
    std::vector<int> seen;
    bool same_thread = true;
    const auto engine = std::make_shared<StreamEngine>();
    Stream stream(engine);
    for (int i = 0; i < 1000; ++i) {
      stream.enqueue([&, i] {
        seen.push_back(i);
        same_thread &= std::this_thread::get_id() == engine->started;
      });
    }
    stream.drain();
    wrong.equal("tasks", seen.size(), 1000);
    wrong.holds("in order", std::is_sorted(seen.begin(), seen.end()));
    wrong.holds("on one thread", same_thread && engine->started != std::this_thread::get_id());
    return wrong.text();
  });
  suite.direct("core", "stream: after an error", [](Device&) {
    Findings wrong;
    std::vector<std::string> seen;
    const auto report = [&](std::exception_ptr error) {
      try {
        if (error) std::rethrow_exception(error);
        seen.push_back("no error");
      } catch (const std::exception& e) {
        seen.push_back(e.what());
      }
    };
    Stream stream(std::make_shared<StreamEngine>());
    stream.enqueue([&] { seen.push_back("ran"); });
    stream.enqueue([] { throw std::runtime_error("first"); });
    stream.enqueue([] { throw std::runtime_error("second"); });
    stream.enqueue([&] { seen.push_back("skipped"); });
    stream.always([&] { seen.push_back("always"); });
    stream.observe(report);
    stream.observe(report);
    stream.enqueue([&] { seen.push_back("skipped as well"); });
    stream.drain();
    const std::vector<std::string> expected{"ran", "always", "first", "first"};
    std::string all;
    for (const auto& s : seen) all += s + ", ";
    wrong.holds(all.c_str(), seen == expected);
    return wrong.text();
  });
  suite.direct("core", "stream: drain waits for what runs", [](Device&) {
    Findings wrong;
    std::atomic<bool> done = false;
    Stream stream(std::make_shared<StreamEngine>());
    stream.enqueue([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      done = true;
    });
    stream.drain();
    wrong.holds("the task is done", done);
    stream.drain();
    return wrong.text();
  });
  suite.direct("core", "stream: stop waits for what runs and drops the rest", [](Device&) {
    Findings wrong;
    std::promise<void> begun, released;
    bool finished = false, dropped = true;
    Stream stream(std::make_shared<StreamEngine>());
    stream.enqueue([&] {
      begun.set_value();
      released.get_future().wait();
      finished = true;
    });
    stream.enqueue([&] { dropped = false; });
    stream.observe([&](std::exception_ptr) { dropped = false; });
    begun.get_future().wait();
    std::thread stopper([&] { stream.stop(); });
    stream.drain();  // returns as soon as the stream is stopping
    released.set_value();
    stopper.join();
    wrong.holds("what ran has finished", finished);
    wrong.holds("what was queued has not run", dropped);
    stream.stop();
    return wrong.text();
  });
}

inline void asynchronous_stream_cases(Suite& suite) {
  suite.direct("core", "stream: reports come when the engine has passed, in order, and hold nothing up",
               [](Device&) {
                 Findings wrong;
                 const auto engine = std::make_shared<StreamEngine>();
                 engine->marks = true;
                 engine->passed.resize(3);  // the last for stop()
                 Stream stream(engine);
                 std::promise<int> ran;
                 std::vector<int> seen;
                 std::promise<void> first, second;
                 stream.observe([&](std::exception_ptr) {
                   seen.push_back(1);
                   first.set_value();
                 });
                 stream.observe([&](std::exception_ptr error) {
                   seen.push_back(error ? -2 : 2);
                   second.set_value();
                 });
                 stream.enqueue([&] { ran.set_value(3); });
                 wrong.equal("what is queued after runs", ran.get_future().get(), 3);
                 wrong.equal("reports before the engine has passed", seen.size(), 0);
                 engine->passed[1].set_value();
                 engine->passed[0].set_value();
                 first.get_future().wait();
                 second.get_future().wait();
                 wrong.holds("in order", seen == std::vector<int>{1, 2});
                 engine->passed[2].set_value();
                 return wrong.text();
               });
  suite.direct("core", "stream: the engine's error fails what follows", [](Device&) {
    Findings wrong;
    const auto engine = std::make_shared<StreamEngine>();
    engine->marks = true;
    engine->passed.resize(2);
    Stream stream(engine);
    std::promise<std::string> reports[2];
    const auto report_to = [](std::promise<std::string>& to) {
      return [&to](std::exception_ptr error) {
        try {
          if (error) std::rethrow_exception(error);
          to.set_value("no error");
        } catch (const std::exception& e) {
          to.set_value(e.what());
        }
      };
    };
    stream.observe(report_to(reports[0]));
    engine->passed[0].set_exception(std::make_exception_ptr(std::runtime_error("the device is lost")));
    wrong.equal("report", reports[0].get_future().get(), "the device is lost");
    bool skipped = true;
    stream.enqueue([&] { skipped = false; });
    stream.observe(report_to(reports[1]));
    wrong.equal("report after it", reports[1].get_future().get(), "the device is lost");
    wrong.holds("what follows is skipped", skipped);
    engine->passed[1].set_value();
    return wrong.text();
  });
}

inline void core_cases(Suite& suite) {
  pool_cases(suite);
  stream_cases(suite);
  asynchronous_stream_cases(suite);
}

}  // namespace glnet::test
