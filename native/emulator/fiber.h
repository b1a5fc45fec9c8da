// Fibers: calls with a stack of their own, which can be left in the middle and entered again.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace glnet::emulator {

/// A stack on which one call at a time runs, on the thread that enters it.
class Fiber {
 public:
  using Entry = void (*)(void* argument);

  /// Bytes of a stack: as much as a CUDA thread's local memory and frames need, more under sanitizers.
  static const size_t kStackBytes;

  explicit Fiber(std::byte* stack);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// The next `enter` calls `entry(argument)`, which must not return. A call that was left is given up, its
  /// destructors not run.
  void prepare(Entry entry, void* argument);
  /// Runs the call up to its next `leave`.
  void enter();
  /// Goes back to the caller of `enter`. Only from inside.
  void leave();

 private:
  struct Context;
  static void start();

  std::byte* stack_;
  std::unique_ptr<Context> context_;
  Entry entry_ = nullptr;
  void* argument_ = nullptr;
};

/// Stacks for many fibers, each with an inaccessible page below: an overflow ends the program.
class Stacks {
 public:
  explicit Stacks(size_t count);
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  /// The lowest byte of a stack.
  std::byte* at(size_t i) const;

 private:
  std::byte* memory_;
  size_t bytes_;
};

}  // namespace glnet::emulator
