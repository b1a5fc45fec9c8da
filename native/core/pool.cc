#include "core/pool.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <utility>
#include <vector>

#include "core/error.h"

namespace glnet {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kGuard = 64;
constexpr unsigned char kCanary = 0xA5;
constexpr size_t kSegment = size_t{8} << 20;
constexpr size_t kSegmentRound = size_t{2} << 20;
// A remainder smaller than this stays with its block: it would only litter the free list.
constexpr size_t kSmallestSplit = 4096;

size_t round_up(size_t n, size_t to) {
  return (n + to - 1) / to * to;
}

/// Addresses alone, from a range that no system gives.
class NoMemory final : public Engine {
 public:
  void* allocate(size_t bytes) override {
    void* data = reinterpret_cast<void*>(next_);
    next_ += round_up(bytes, kSegmentRound);
    return data;
  }
  void release(void*, size_t) override {}
  void fill(void*, int, size_t) override {}
  void upload(void*, const void*, size_t) override {}
  void download(void*, const void*, size_t) override {}
  std::string description() const override { return "no memory"; }

 private:
  uintptr_t next_ = uintptr_t{1} << 62;
};

double mebibytes(size_t n) {
  return static_cast<double>(n) / (1 << 20);
}

}  // namespace

Pool::Pool(std::shared_ptr<Engine> engine, std::function<void()> drain, bool guarded)
    : engine_(std::move(engine)), drain_(std::move(drain)), guarded_(guarded) {}

Pool::~Pool() {
  for (auto& [data, segment] : segments_) {
    for (Block* b = segment->first; b;) delete std::exchange(b, b->next);
    engine_->release(data, segment->room);
  }
}

void* Pool::take(size_t bytes, const char* purpose, Lifetime lifetime) {
  const size_t asked = bytes;
  bytes = round_up(std::max<size_t>(bytes, 1), kAlignment) + (guarded_ ? 2 * kGuard : 0);
  Block* block = guarded_ ? nullptr : find(bytes, lifetime);
  if (!block) block = grow(bytes, purpose, lifetime);
  free_.erase(block);
  split(block, bytes);
  block->in_use = true;
  block->asked = asked;
  active_ += block->bytes;
  peak_ = std::max(peak_, active_);
  std::byte* data = block->data;
  if (guarded_) {
    engine_->fill(data, kCanary, block->bytes);
    data += kGuard;
    engine_->fill(data, 0xFF, asked);  // NaN in every floating format
  }
  used_.emplace(data, block);
  return data;
}

void Pool::give(void* data) {
  const auto entry = used_.find(data);
  if (entry == used_.end()) fail(ErrorCode::native, "pool: memory given back that was not taken");
  Block* block = entry->second;
  used_.erase(entry);
  if (guarded_ && !rehearses_) {
    drain_();
    check_guard(*block, true);
    check_guard(*block, false);
  }
  active_ -= block->bytes;
  block->in_use = false;
  if (block->next && !block->next->in_use) block = merge_with_next(block);
  if (block->previous && !block->previous->in_use) block = merge_with_next(block->previous);
  free_.insert(block);
  if (guarded_) trim();
}

void Pool::check_guard(const Block& block, bool before) const {
  const size_t first = before ? 0 : kGuard + block.asked;
  std::vector<unsigned char> guard(before ? kGuard : block.bytes - first);
  engine_->download(guard.data(), block.data + first, guard.size());
  for (size_t i = 0; i < guard.size(); ++i) {
    if (guard[i] == kCanary) continue;
    std::fprintf(stderr, "glnet: a kernel wrote %zu bytes %s its block of %zu bytes\n",
                 before ? kGuard - i : i + 1, before ? "before" : "past", block.asked);
    std::abort();
  }
}

Pool::Block* Pool::find(size_t bytes, Lifetime lifetime) {
  // The first that fits: what follows at the end stays free, and the end can go.
  for (Block* block : free_) {
    if (block->bytes >= bytes && block->segment->lifetime == lifetime) return block;
  }
  return nullptr;
}

Pool::Block* Pool::grow(size_t bytes, const char* purpose, Lifetime lifetime) {
  if (Block* block = extend(bytes, lifetime)) return block;
  const size_t wanted = guarded_ ? bytes : bytes < kSegment ? kSegment : round_up(bytes, kSegmentRound);
  if (!fits(wanted)) trim();
  // Near the limit, a segment of just the size asked for may still fit.
  const size_t size = fits(wanted) ? wanted : bytes;
  const bool may = rehearses_ || fits(size);
  void* data = may ? engine_->allocate(size) : nullptr;
  if (!data && may) {
    trim();
    data = engine_->allocate(size);
  }
  if (!data) {
    std::ostringstream text;
    text.precision(1);
    text << std::fixed << purpose << " needs " << mebibytes(bytes) << " MiB; in use are "
         << mebibytes(active_) << " MiB, the largest free block has " << mebibytes(largest_free(lifetime))
         << " MiB";
    if (limit_) {
      text << ", and the limit is " << mebibytes(limit_)
           << " MiB. Raise the memory limit, or lower the batch size";
    } else {
      text << ", and the device has no more memory. Lower the batch size";
    }
    throw Error(ErrorCode::out_of_memory, text.str());
  }
  Segment* segment = add(data, lifetime, size);
  return append(segment, size);
}

Pool::Segment* Pool::growing(Lifetime lifetime) {
  Segment*& segment = growing_[static_cast<size_t>(lifetime)];
  if (!segment && !guarded_) {
    size_t room = 0;
    if (void* data = engine_->reserve(room)) segment = add(data, lifetime, room);
  }
  return segment;
}

Pool::Block* Pool::extend(size_t bytes, Lifetime lifetime) {
  Segment* segment = growing(lifetime);
  if (!segment) return nullptr;
  const auto missing = [&] {
    const Block* last = last_of(*segment);
    return bytes - (last && !last->in_use ? last->bytes : 0);
  };
  size_t more = round_up(missing(), kSegmentRound);
  if (!fits(more)) trim();
  more = round_up(missing(), kSegmentRound);
  // Near the limit, just the size asked for may still fit.
  if (!fits(more)) more = missing();
  if (!(rehearses_ || fits(more)) || segment->bytes + more > segment->room) return nullptr;
  return append(segment, more);
}

Pool::Segment* Pool::add(void* data, Lifetime lifetime, size_t room) {
  auto made =
      std::make_unique<Segment>(Segment{static_cast<std::byte*>(data), 0, lifetime, added_++, room, nullptr});
  Segment* segment = made.get();
  segments_.emplace(segment->data, std::move(made));
  return segment;
}

Pool::Block* Pool::last_of(const Segment& segment) {
  Block* last = segment.first;
  while (last && last->next) last = last->next;
  return last;
}

Pool::Block* Pool::append(Segment* segment, size_t bytes) {
  Block* last = last_of(*segment);
  auto* block = new Block{segment, segment->data + segment->bytes, bytes};
  (last ? last->next : segment->first) = block;
  block->previous = last;
  segment->bytes += bytes;
  held_ += bytes;
  reserved_ = std::max(reserved_, held_);
  free_.insert(block);
  return last && !last->in_use ? merge_with_next(last) : block;
}

void Pool::split(Block* block, size_t bytes) {
  // The end of a segment that grows is as if it were always free, so that places in it do not depend on how
  // much it grew at a time, nor on when its end went: they are the same under any limit.
  const bool at_end =
      !block->next && block->segment == growing_[static_cast<size_t>(block->segment->lifetime)];
  if (block->bytes - bytes < (at_end ? kAlignment : kSmallestSplit)) return;
  Block* rest = new Block{block->segment, block->data + bytes, block->bytes - bytes};
  rest->previous = block;
  rest->next = block->next;
  if (rest->next) rest->next->previous = rest;
  block->next = rest;
  block->bytes = bytes;
  free_.insert(rest);
}

Pool::Block* Pool::merge_with_next(Block* block) {
  Block* next = block->next;
  free_.erase(block);
  free_.erase(next);
  block->bytes += next->bytes;
  block->next = next->next;
  if (block->next) block->next->previous = block;
  delete next;
  return block;
}

void Pool::trim() {
  bool drained = false;
  for (auto it = segments_.begin(); it != segments_.end();) {
    Segment& segment = *it->second;
    Block* last = last_of(segment);
    const bool grows = &segment == growing_[0] || &segment == growing_[1];
    // The end of a growing segment goes, or a whole other one.
    if (!last || last->in_use || (!grows && last->previous)) {
      ++it;
      continue;
    }
    if (!drained) drain_();
    drained = true;
    free_.erase(last);
    held_ -= last->bytes;
    if (grows) {
      engine_->discard(last->data, last->bytes);
      segment.bytes -= last->bytes;
      (last->previous ? last->previous->next : segment.first) = nullptr;
      delete last;
      ++it;
    } else {
      engine_->release(segment.data, segment.room);
      delete last;
      it = segments_.erase(it);
    }
  }
}

size_t Pool::largest_free(Lifetime lifetime) const {
  size_t most = 0;
  for (const Block* block : free_) {
    if (block->segment->lifetime == lifetime) most = std::max(most, block->bytes);
  }
  return most;
}

PoolCounters Pool::counters() const {
  return {active_, held_ - active_, peak_, reserved_, limit_, used_.size()};
}

void Pool::reset_peak() {
  peak_ = active_;
  reserved_ = held_;
}

std::shared_ptr<Pool> Pool::rehearsal() {
  // Room to grow in takes no memory, and is known to be there only once it was asked for.
  for (const Lifetime lifetime : {Lifetime::passing, Lifetime::lasting}) growing(lifetime);
  std::shared_ptr<Pool> copy(new Pool);
  copy->engine_ = std::make_shared<NoMemory>();
  copy->drain_ = [] {};
  copy->guarded_ = guarded_;
  copy->rehearses_ = true;
  std::map<const Block*, Block*> blocks;
  for (const auto& [data, segment] : segments_) {
    auto made = std::make_unique<Segment>(*segment);
    Block* previous = nullptr;
    for (const Block* block = segment->first; block; block = block->next) {
      auto* twin = new Block(*block);
      blocks.emplace(block, twin);
      twin->segment = made.get();
      twin->previous = previous;
      (previous ? previous->next : made->first) = twin;
      previous = twin;
      if (!twin->in_use) copy->free_.insert(twin);
    }
    for (size_t i = 0; i < growing_.size(); ++i) {
      if (growing_[i] == segment.get()) copy->growing_[i] = made.get();
    }
    copy->segments_.emplace(data, std::move(made));
  }
  for (const auto& [data, block] : used_) copy->used_.emplace(data, blocks.at(block));
  copy->added_ = added_;
  copy->limit_ = limit_;
  copy->held_ = copy->reserved_ = held_;
  copy->active_ = copy->peak_ = active_;
  return copy;
}

}  // namespace glnet
