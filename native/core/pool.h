// A caching allocator with counters and a limit.
//
// Blocks are taken and given back on the submitting thread, in the order in which work is queued; the
// in-order stream makes it safe to hand a block that was just given back to the next operation at once. The
// peak is therefore a property of the program, not of timing.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <set>

#include "core/engine.h"

namespace glnet {

/// Weights last, maps pass: kept apart, neither leave the other holes.
enum class Lifetime { passing, lasting };

struct PoolCounters {
  size_t active = 0;    ///< bytes in blocks that are in use
  size_t cached = 0;    ///< bytes kept for the next request
  size_t peak = 0;      ///< the most bytes that were active at once
  size_t reserved = 0;  ///< the most bytes that were taken from the system at once
  size_t limit = 0;     ///< the most that may be taken from the system; 0 means no limit
  size_t blocks = 0;    ///< blocks in use
};

class Pool {
 public:
  /// `drain` waits until all queued work has run; it is called before memory goes back to the system.
  /// A guarded pool surrounds each block with canaries, fills it with NaN, and never reuses a segment: for
  /// tests.
  Pool(std::shared_ptr<Engine> engine, std::function<void()> drain, bool guarded = false);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /// Memory of at least `bytes` (64-byte aligned). Throws ErrorCode::out_of_memory, naming `purpose`, when
  /// the limit or the system refuses.
  void* take(size_t bytes, const char* purpose, Lifetime lifetime = Lifetime::passing);
  /// Gives memory from `take` back. A guarded pool checks its canaries here and aborts the program if one is
  /// gone.
  void give(void* data);

  /// Returns what is cached to the system.
  void trim();
  void set_limit(size_t bytes) { limit_ = bytes; }
  PoolCounters counters() const;
  void reset_peak();

  /// A pool that goes on from the state of this one without any memory: what it gives are addresses that
  /// nothing may touch, and what is done to it changes nothing here. It is the same code on a copy of the
  /// book-keeping, so the same takes and gives have the same counters here afterwards. Its limit has the
  /// effects on the way that it has here (what is free goes back, growth is as small as can be), but where
  /// take would throw here, `reserved` there passes the limit.
  std::shared_ptr<Pool> rehearsal();

 private:
  Pool() = default;
  struct Segment;
  struct Block {
    Segment* segment;
    std::byte* data;
    size_t bytes;
    bool in_use = false;
    size_t asked = 0;
    Block* previous = nullptr;
    Block* next = nullptr;
  };
  struct Segment {
    std::byte* data;
    size_t bytes;
    Lifetime lifetime;
    size_t number;  ///< of the segments in the order in which they came
    size_t room;    ///< bytes that it may grow to
    Block* first;
  };
  struct InOrder {
    bool operator()(const Block* a, const Block* b) const {
      return a->segment != b->segment ? a->segment->number < b->segment->number : a->data < b->data;
    }
  };

  /// Ends the program if the canaries on one side of the block are gone.
  void check_guard(const Block& block, bool before) const;
  /// The segment that grows; nullptr if the engine has no room for such.
  Segment* growing(Lifetime lifetime);
  bool fits(size_t more) const { return limit_ == 0 || held_ + more <= limit_; }
  Block* find(size_t bytes, Lifetime lifetime);
  Block* grow(size_t bytes, const char* purpose, Lifetime lifetime);
  /// Makes the growing segment of this lifetime longer; nullptr if there is none, or it cannot.
  Block* extend(size_t bytes, Lifetime lifetime);
  Segment* add(void* data, Lifetime lifetime, size_t room);
  /// Free memory at the end of a segment, joined with what is free there.
  Block* append(Segment* segment, size_t bytes);
  static Block* last_of(const Segment& segment);
  void split(Block* block, size_t bytes);
  Block* merge_with_next(Block* block);
  size_t largest_free(Lifetime lifetime) const;

  std::shared_ptr<Engine> engine_;
  std::function<void()> drain_;
  bool guarded_ = false;
  bool rehearses_ = false;
  std::set<Block*, InOrder> free_;
  std::map<void*, Block*> used_;
  std::map<std::byte*, std::unique_ptr<Segment>> segments_;
  /// By lifetime; as soon as one is wanted, and where the engine has room for such.
  std::array<Segment*, 2> growing_{};
  size_t added_ = 0;
  size_t limit_ = 0;
  size_t held_ = 0;
  size_t active_ = 0;
  size_t peak_ = 0;
  size_t reserved_ = 0;
};

}  // namespace glnet
