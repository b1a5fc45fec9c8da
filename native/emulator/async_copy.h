// Copies from global to shared memory that go on beside the thread's work, as CUDA's cp.async has them. They
// are done when the thread waits for them, no sooner; until then what they write is NaN.
#pragma once

#include <vector>

#include "emulator/emulator.h"

namespace glnet::emulator {

/// A thread's copies, in groups. E: 16 bytes.
template <class E>
class AsyncCopies {
  static_assert(sizeof(E) == 16);

 public:
  /// `inside`: whether there is something to read; else zeros are written.
  void copy(const SharedAddress<E>& to, const E* from, bool inside) {
    E nothing;
    std::memset(&nothing, 0xff, sizeof(E));
    Shared<E>(to.array)[to.i] = nothing;
    open_.push_back({to, from, inside});
  }
  /// Ends a group of copies.
  void commit() {
    groups_.push_back(std::move(open_));
    open_.clear();
  }
  /// Returns when all groups but the last kLeft are done.
  template <size_t kLeft>
  void wait() {
    while (groups_.size() > kLeft) {
      for (const Copy& c : groups_.front()) Shared<E>(c.to.array)[c.to.i] = c.inside ? *c.from : E{};
      groups_.erase(groups_.begin());
    }
  }

 private:
  struct Copy {
    SharedAddress<E> to;
    const E* from;
    bool inside;
  };
  std::vector<Copy> open_;
  std::vector<std::vector<Copy>> groups_;
};

}  // namespace glnet::emulator
