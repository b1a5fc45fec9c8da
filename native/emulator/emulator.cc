#include "emulator/emulator.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "emulator/fiber.h"

namespace glnet::emulator {

static std::ostream& operator<<(std::ostream& out, const uint3& v) {
  return out << '(' << v.x << ", " << v.y << ", " << v.z << ')';
}

namespace {

constexpr size_t kWarp = 32;
constexpr size_t kGap = 64;  // canaries before and after each shared array
constexpr std::byte kCanary{0xA5};
constexpr std::byte kNaN{0xFF};

std::mutex settings_mutex;
Schedule current_schedule;
std::map<const void*, size_t> opt_in;

std::string place(const std::source_location& at) {
  const std::string file = at.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(at.line());
}

const char* name_of(detail::Collective kind) {
  switch (kind) {
    case detail::Collective::shuffle:
      return "a shuffle";
    case detail::Collective::ballot:
      return "__ballot_sync";
    case detail::Collective::any:
      return "__any_sync";
    case detail::Collective::all:
      return "__all_sync";
    case detail::Collective::syncwarp:
      return "__syncwarp";
    case detail::Collective::matrix:
      return "an operation on matrices";
    case detail::Collective::none:
      break;
  }
  return "nothing";
}

struct Hex {
  unsigned bits;
};
std::ostream& operator<<(std::ostream& out, Hex h) {
  return out << "0x" << std::hex << h.bits << std::dec;
}

enum class State : uint8_t { fresh, ready, barrier, warp, exited };

struct Thread {
  State state = State::fresh;
  Fiber* fiber = nullptr;
  uint3 index;
  std::source_location site;  ///< where it waits
  detail::Collective kind = detail::Collective::none;
  unsigned mask = 0;
  int source = 0;
  uint64_t value = 0;
  uint64_t result = 0;
};

/// One access to an element of shared memory.
struct Mark {
  uint64_t epoch =
      0;  ///< barriers before it; epochs are never used twice, so that old marks need no clearing
  uint32_t clock = 0;  ///< of the thread: its __syncwarps in this block
  uint16_t thread = 0;
};
/// Two marks of each kind are of different threads, so that whoever comes next differs from one of them.
struct Shadow {
  Mark write;
  Mark reads[2];
  Mark atomics[2];
};

/// Runs the blocks of a grid, one after the other, on one OS thread.
class Runner {
 public:
  /// `opted_in`: whether static and dynamic shared memory together may exceed kSharedBytes.
  void run(const LaunchGrid& grid, dim3 block, size_t shared_bytes, bool opted_in, void (*call)(void*),
           void* self);

  void barrier(const std::source_location& site);
  uint64_t collect(detail::Collective kind, unsigned mask, uint64_t value, int source,
                   const std::source_location& site, void (*finish)(const uint64_t* lanes));
  detail::Array static_array(const void* tag, size_t size, size_t count);
  detail::Array dynamic_array(size_t size) { return {arena_.get() + kGap, dynamic_bytes_ / size, 0}; }
  void note(const detail::Array& array, size_t element, detail::Access access);
  size_t current() const { return current_; }

  /// Fails, naming the launch, the block, and the thread that runs.
  template <class... Parts>
  [[noreturn]] void wrong(const Parts&... parts) const {
    fail(ErrorCode::native, "emulator: ", parts..., "; kernel launched at ", place(launched_at_), ", block ",
         blockIdx, ", thread ", threads_[current_].index);
  }

 private:
  void run_block();
  void clear_arena();
  void check_arena() const;
  void pass();
  void release_or_report();
  void resume(size_t thread);
  void select(size_t thread);
  bool take_fresh();
  void wait(State state);
  size_t add_region(size_t bytes);
  void order_warp(size_t first, unsigned mask);
  bool ordered(const Mark& before) const;
  std::string state_of(size_t thread) const;
  static void work(void* self);

  // The stacks stay between launches: a mapping for each would cost more than most kernels.
  std::unique_ptr<Stacks> stacks_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;

  std::source_location launched_at_;
  Schedule schedule_;
  std::mt19937_64 random_;
  void (*call_)(void*) = nullptr;
  void* self_ = nullptr;
  std::exception_ptr error_;

  std::vector<Thread> threads_;
  std::vector<uint32_t> order_;
  size_t next_ = 0;  ///< position in the order of this pass
  size_t current_ = 0;

  struct Region {
    size_t begin, bytes;
  };
  std::unique_ptr<std::byte[]> arena_;
  size_t arena_end_ = 0;  ///< past the last region and its gap
  size_t dynamic_bytes_ = 0;
  size_t allowed_bytes_ = 0;  ///< of shared memory in all
  size_t static_bytes_ = 0;
  std::vector<Region> regions_;
  std::map<const void*, detail::Array> arrays_;
  std::vector<Shadow> shadows_;
  size_t shadow_end_ = 0;

  uint64_t epoch_ = 0;
  bool clocks_used_ = false;                        ///< some __syncwarp was passed in this block
  std::vector<std::array<uint32_t, kWarp>> known_;  ///< each thread's knowledge of its warp's clocks
};

constexpr size_t kArenaBytes = 2 * Limits::kOptInSharedBytes;

// Pointers, since a library that is loaded late finds little thread-local memory of the fast kind.
thread_local std::unique_ptr<Runner> runner;
/// The runner while a kernel runs: without the check for construction that `runner` costs at every access.
constinit thread_local Runner* running = nullptr;

Runner& active() {
  if (!running) fail(ErrorCode::native, "emulator: a device function was called outside a kernel");
  return *running;
}

void Runner::run(const LaunchGrid& grid, dim3 block, size_t shared_bytes, bool opted_in, void (*call)(void*),
                 void* self) {
  schedule_ = schedule();
  random_.seed(schedule_.seed);
  launched_at_ = grid.at;
  call_ = call;
  self_ = self;
  dynamic_bytes_ = shared_bytes;
  allowed_bytes_ = opted_in ? Limits::kOptInSharedBytes : Limits::kSharedBytes;
  error_ = nullptr;
  if (!stacks_) {
    stacks_ = std::make_unique<Stacks>(Limits::kBlockThreads);
    arena_ = std::make_unique<std::byte[]>(kArenaBytes);
  }
  if (idle_.size() != fibers_.size()) {
    // An earlier launch failed, and its calls still wait: they are given up.
    idle_.clear();
    for (const auto& fiber : fibers_) {
      fiber->prepare(&Runner::work, this);
      idle_.push_back(fiber.get());
    }
  }
  blockDim = block;
  gridDim = grid.size;
  threads_.assign(size_t{block.x} * block.y * block.z, {});
  for (size_t i = 0; i < threads_.size(); ++i) {
    const auto n = static_cast<unsigned>(i);
    threads_[i].index = {n % block.x, n / block.x % block.y, n / block.x / block.y};
  }
  running = this;
  struct Stop {
    ~Stop() { running = nullptr; }
  } stop;

  const uint64_t blocks = uint64_t{grid.size.x} * grid.size.y * grid.size.z;
  // A random order of blocks without a list of them: a walk whose step shares no divisor with their number.
  uint64_t first = 0, step = 1;
  if (schedule_.order == Schedule::Order::reverse) first = blocks - 1, step = blocks - 1;
  if (schedule_.order == Schedule::Order::random) {
    first = random_() % blocks;
    do step = 1 + random_() % blocks;
    while (std::gcd(step, blocks) != 1);
  }
  for (uint64_t i = 0, b = first; i < blocks; ++i, b = (b + step) % blocks) {
    blockIdx = {static_cast<unsigned>(b % grid.size.x), static_cast<unsigned>(b / grid.size.x % grid.size.y),
                static_cast<unsigned>(b / grid.size.x / grid.size.y)};
    run_block();
  }
}

void Runner::run_block() {
  clear_arena();
  ++epoch_;
  clocks_used_ = false;
  for (Thread& t : threads_) t.state = State::fresh, t.fiber = nullptr;
  for (;;) {
    pass();
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    if (std::all_of(threads_.begin(), threads_.end(), [](auto& t) { return t.state == State::exited; }))
      break;
    release_or_report();
  }
  check_arena();
}

/// Gives every thread that can run its turn, up to where it waits next.
void Runner::pass() {
  order_.clear();
  for (size_t i = 0; i < threads_.size(); ++i) {
    const State s = threads_[i].state;
    if (s == State::fresh || s == State::ready) order_.push_back(static_cast<uint32_t>(i));
  }
  if (schedule_.order == Schedule::Order::reverse) std::reverse(order_.begin(), order_.end());
  if (schedule_.order == Schedule::Order::random) std::shuffle(order_.begin(), order_.end(), random_);
  for (next_ = 0; next_ < order_.size() && !error_;) resume(order_[next_++]);
}

/// When no thread can run: opens the barrier if all wait there, and says who is missing if not.
void Runner::release_or_report() {
  if (std::any_of(threads_.begin(), threads_.end(), [](auto& t) { return t.state == State::ready; })) return;
  for (current_ = 0; current_ < threads_.size(); ++current_) {
    const Thread& t = threads_[current_];
    if (t.state != State::warp) continue;
    const size_t first = current_ / kWarp * kWarp;
    for (size_t lane = 0; lane < kWarp; ++lane) {
      if (!(t.mask >> lane & 1)) continue;
      const size_t i = first + lane;
      const bool there = i < threads_.size() && threads_[i].state == State::warp &&
                         threads_[i].mask == t.mask && threads_[i].kind == t.kind;
      if (there) continue;
      wrong(name_of(t.kind), " at ", place(t.site), " with mask ", Hex{t.mask}, " waits for lane ", lane,
            ", which ", state_of(i));
    }
  }
  const auto waiting =
      std::find_if(threads_.begin(), threads_.end(), [](auto& t) { return t.state == State::barrier; });
  current_ = static_cast<size_t>(waiting - threads_.begin());
  for (size_t i = 0; i < threads_.size(); ++i) {
    const Thread& t = threads_[i];
    if (t.state == State::barrier && t.site.line() == waiting->site.line() &&
        !std::strcmp(t.site.file_name(), waiting->site.file_name())) {
      continue;
    }
    wrong("divergent barrier: __syncthreads at ", place(waiting->site), " waits for thread ", t.index,
          ", which ", state_of(i));
  }
  ++epoch_;
  for (Thread& t : threads_) t.state = State::ready;
}

std::string Runner::state_of(size_t thread) const {
  if (thread >= threads_.size()) return "the block does not have";
  const Thread& t = threads_[thread];
  std::ostringstream text;
  switch (t.state) {
    case State::exited:
      return "has exited";
    case State::barrier:
      text << "waits at __syncthreads at " << place(t.site);
      break;
    case State::warp:
      text << "waits at " << name_of(t.kind) << " at " << place(t.site) << " with mask " << Hex{t.mask};
      break;
    case State::fresh:
    case State::ready:
      text << "runs";
  }
  return text.str();
}

void Runner::select(size_t thread) {
  current_ = thread;
  threadIdx = threads_[thread].index;
}

void Runner::resume(size_t thread) {
  select(thread);
  Thread& t = threads_[thread];
  if (t.state == State::fresh) {
    if (idle_.empty()) {
      fibers_.push_back(std::make_unique<Fiber>(stacks_->at(fibers_.size())));
      fibers_.back()->prepare(&Runner::work, this);
      idle_.push_back(fibers_.back().get());
    }
    t.fiber = idle_.back();
    idle_.pop_back();
  }
  t.state = State::ready;
  t.fiber->enter();
}

/// What a fiber does: threads that begin, one after the other as long as they do not wait.
void Runner::work(void* self) {
  auto& r = *static_cast<Runner*>(self);
  for (;;) {
    Fiber* fiber = r.threads_[r.current_].fiber;
    try {
      do {
        r.call_(r.self_);
        r.threads_[r.current_].state = State::exited;
      } while (r.take_fresh());
    } catch (...) {
      r.error_ = std::current_exception();
    }
    r.idle_.push_back(fiber);
    fiber->leave();
  }
}

/// Goes on with the next thread of the pass on the same fiber, if that thread has not begun.
bool Runner::take_fresh() {
  if (next_ >= order_.size() || threads_[order_[next_]].state != State::fresh) return false;
  Fiber* fiber = threads_[current_].fiber;
  select(order_[next_++]);
  threads_[current_].state = State::ready;
  threads_[current_].fiber = fiber;
  return true;
}

void Runner::wait(State state) {
  Thread& t = threads_[current_];
  t.state = state;
  t.fiber->leave();
}

void Runner::barrier(const std::source_location& site) {
  threads_[current_].site = site;
  wait(State::barrier);
}

uint64_t Runner::collect(detail::Collective kind, unsigned mask, uint64_t value, int source,
                         const std::source_location& site, void (*finish)(const uint64_t* lanes)) {
  const size_t first = current_ / kWarp * kWarp, lane = current_ % kWarp;
  Thread& t = threads_[current_];
  if (!(mask >> lane & 1)) {
    wrong(name_of(kind), " at ", place(site), ": the calling lane ", lane, " is not in its mask ", Hex{mask});
  }
  if (source < 0 || source >= static_cast<int>(kWarp) || !(mask >> source & 1)) {
    wrong(name_of(kind), " at ", place(site), " reads lane ", source, ", which is not in the mask ",
          Hex{mask});
  }
  t.kind = kind;
  t.mask = mask;
  t.value = value;
  t.source = source;
  t.site = site;
  const auto member = [&](size_t i) { return mask >> i & 1; };
  bool complete = true;
  for (size_t i = 0; i < kWarp && complete; ++i) {
    if (!member(i) || i == lane) continue;
    complete = first + i < threads_.size();
    if (!complete) break;
    const Thread& other = threads_[first + i];
    complete = other.state == State::warp && other.kind == kind && other.mask == mask;
  }
  if (!complete) {
    wait(State::warp);
    return t.result;
  }
  uint64_t votes = 0;
  for (size_t i = 0; i < kWarp; ++i) {
    if (member(i) && threads_[first + i].value) votes |= uint64_t{1} << i;
  }
  for (size_t i = 0; i < kWarp; ++i) {
    if (!member(i)) continue;
    Thread& other = threads_[first + i];
    other.result = kind == detail::Collective::shuffle
                       ? threads_[first + static_cast<size_t>(other.source)].value
                       : votes;
    other.state = State::ready;
  }
  if (kind == detail::Collective::syncwarp) order_warp(first, mask);
  if (finish) {
    uint64_t values[kWarp];
    for (size_t i = 0; i < kWarp; ++i) values[i] = member(i) ? threads_[first + i].value : 0;
    finish(values);
  }
  return t.result;
}

/// After a __syncwarp each lane of the mask knows what the others have done before.
void Runner::order_warp(size_t first, unsigned mask) {
  if (!clocks_used_) {
    clocks_used_ = true;
    known_.assign((threads_.size() + kWarp - 1) / kWarp * kWarp, {});
    for (size_t i = 0; i < known_.size(); ++i) known_[i][i % kWarp] = 1;
  }
  std::array<uint32_t, kWarp> all{};
  for (size_t i = 0; i < kWarp; ++i) {
    if (!(mask >> i & 1)) continue;
    for (size_t j = 0; j < kWarp; ++j) all[j] = std::max(all[j], known_[first + i][j]);
  }
  for (size_t i = 0; i < kWarp; ++i) {
    if (!(mask >> i & 1)) continue;
    known_[first + i] = all;
    ++known_[first + i][i];
  }
}

/// Whether an access is sure to be over for the thread that runs.
bool Runner::ordered(const Mark& before) const {
  if (before.epoch < epoch_ || before.thread == current_) return true;
  return clocks_used_ && before.thread / kWarp == current_ / kWarp &&
         known_[current_][before.thread % kWarp] >= before.clock;
}

void Runner::note(const detail::Array& array, size_t element, detail::Access access) {
  Shadow& shadow = shadows_[array.shadow + element];
  const uint32_t clock = clocks_used_ ? known_[current_][current_ % kWarp] : 1;
  const Mark mark{epoch_, clock, static_cast<uint16_t>(current_)};
  const auto refuse = [&](const Mark& other, const char* did) {
    if (ordered(other)) return;
    const char* does = access == detail::Access::read    ? "read"
                       : access == detail::Access::write ? "written"
                                                         : "updated";
    wrong("race on element ", element, " of a shared array of ", array.count, ": ", does, " here, and ", did,
          " by thread ", threads_[other.thread].index, " without a barrier in between");
  };
  const auto remember = [&](Mark(&marks)[2]) { marks[ordered(marks[0]) ? 0 : 1] = mark; };
  refuse(shadow.write, "written");
  if (access != detail::Access::read) {
    for (const Mark& other : shadow.reads) refuse(other, "read");
  }
  if (access != detail::Access::atomic) {
    for (const Mark& other : shadow.atomics) refuse(other, "updated");
  }
  switch (access) {
    case detail::Access::read:
      return remember(shadow.reads);
    case detail::Access::atomic:
      return remember(shadow.atomics);
    case detail::Access::write:
      shadow.write = mark;
  }
}

void Runner::clear_arena() {
  std::fill(arena_.get(), arena_.get() + std::max(arena_end_, kGap), kCanary);
  regions_.clear();
  arrays_.clear();
  arena_end_ = kGap;
  shadow_end_ = 0;
  static_bytes_ = 0;
  add_region(dynamic_bytes_);
  shadow_end_ = dynamic_bytes_;
  if (shadows_.size() < shadow_end_) shadows_.resize(shadow_end_);
}

/// Reserves bytes of the arena, NaN, with canaries after them. Returns where they begin.
size_t Runner::add_region(size_t bytes) {
  const size_t begin = arena_end_;
  arena_end_ = begin + (bytes + kGap - 1) / kGap * kGap + kGap;
  if (arena_end_ > kArenaBytes) wrong("more shared arrays than the emulator has room for, ", regions_.size());
  std::fill(arena_.get() + begin, arena_.get() + begin + bytes, kNaN);
  std::fill(arena_.get() + begin + bytes, arena_.get() + arena_end_, kCanary);
  regions_.push_back({begin, bytes});
  return begin;
}

detail::Array Runner::static_array(const void* tag, size_t size, size_t count) {
  const auto known = arrays_.find(tag);
  if (known != arrays_.end()) return known->second;
  static_bytes_ += size * count;
  if (static_bytes_ > Limits::kSharedBytes || static_bytes_ + dynamic_bytes_ > allowed_bytes_) {
    wrong("static shared memory of ", static_bytes_, " bytes beside ", dynamic_bytes_,
          " dynamic ones: at most ", Limits::kSharedBytes, ", and ", allowed_bytes_,
          " in all (more after allow_shared)");
  }
  const detail::Array array{arena_.get() + add_region(size * count), count, shadow_end_};
  shadow_end_ += count;
  if (shadows_.size() < shadow_end_) shadows_.resize(shadow_end_);
  arrays_.emplace(tag, array);
  return array;
}

void Runner::check_arena() const {
  const auto gap = [&](size_t begin, size_t end, const Region& region, const char* side) {
    for (size_t i = begin; i < end; ++i) {
      if (arena_[i] == kCanary) continue;
      fail(ErrorCode::native, "emulator: shared memory was written ",
           i < region.begin ? region.begin - i : i - region.begin - region.bytes + 1, " bytes ", side,
           " an array of ", region.bytes, " bytes; kernel launched at ", place(launched_at_), ", block ",
           blockIdx);
    }
  };
  gap(0, kGap, regions_[0], "before");
  for (size_t i = 0; i < regions_.size(); ++i) {
    const size_t end = i + 1 < regions_.size() ? regions_[i + 1].begin : arena_end_;
    gap(regions_[i].begin + regions_[i].bytes, end, regions_[i], "past");
  }
}

}  // namespace

void set_schedule(Schedule schedule) {
  const std::lock_guard lock(settings_mutex);
  current_schedule = schedule;
}

Schedule schedule() {
  const std::lock_guard lock(settings_mutex);
  return current_schedule;
}

void __syncthreads(std::source_location site) {
  active().barrier(site);
}

namespace detail {

void run_grid(const void* kernel, const LaunchGrid& grid, dim3 block, size_t shared_bytes,
              void (*call)(void*), void* self) {
  const auto refuse = [&](const auto&... parts) {
    fail(ErrorCode::native, "emulator: launch at ", place(grid.at), ": ", parts...);
  };
  if (running) refuse("a kernel cannot launch another");
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads < 1 || threads > Limits::kBlockThreads || block.z > Limits::kBlockDepth) {
    refuse("a block of ", block.x, " x ", block.y, " x ", block.z, " threads; it must have 1 to ",
           Limits::kBlockThreads, ", at most ", Limits::kBlockDepth, " deep");
  }
  const dim3 size = grid.size;
  if (size.x < 1 || size.y < 1 || size.z < 1 || size.x > Limits::kGridWidth || size.y > Limits::kGridHeight ||
      size.z > Limits::kGridHeight) {
    refuse("a grid of ", size.x, " x ", size.y, " x ", size.z, " blocks; it must have 1 to ",
           Limits::kGridWidth, " x ", Limits::kGridHeight, " x ", Limits::kGridHeight);
  }
  size_t allowed = Limits::kSharedBytes;
  bool opted_in = false;
  {
    const std::lock_guard lock(settings_mutex);
    const auto entry = opt_in.find(kernel);
    opted_in = entry != opt_in.end();
    if (opted_in) allowed = std::max(allowed, entry->second);
  }
  if (shared_bytes > allowed) {
    refuse(shared_bytes, " bytes of dynamic shared memory, and the kernel may have ", allowed,
           "; call allow_shared first");
  }
  if (!runner) runner = std::make_unique<Runner>();
  runner->run(grid, block, shared_bytes, opted_in, call, self);
}

void allow_shared(const void* kernel, size_t bytes) {
  if (bytes > Limits::kOptInSharedBytes) {
    fail(ErrorCode::native, "emulator: allow_shared: ", bytes, " bytes, and devices have ",
         Limits::kOptInSharedBytes, " for a block");
  }
  const std::lock_guard lock(settings_mutex);
  opt_in[kernel] = bytes;
}

uint64_t collect(Collective kind, unsigned mask, uint64_t value, int source, std::source_location site,
                 void (*finish)(const uint64_t* lanes)) {
  return active().collect(kind, mask, value, source, site, finish);
}

int lane() {
  return static_cast<int>(active().current() % kWarp);
}

Array static_array(const void* tag, size_t size, size_t count) {
  return active().static_array(tag, size, count);
}

Array dynamic_array(size_t size) {
  return active().dynamic_array(size);
}

void note(const Array& array, size_t element, Access access) {
  active().note(array, element, access);
}

void outside(size_t count, int64_t element) {
  active().wrong("shared memory: element ", element, " of an array of ", count);
}

void check_matrix(size_t begin, size_t row_bytes, const std::source_location& site) {
  if (begin % 32 == 0 && row_bytes % 16 == 0) return;
  active().wrong("a matrix at ", place(site), " begins at byte ", begin, " of its array, with rows of ",
                 row_bytes, " bytes: must be multiples of 32 and 16");
}

}  // namespace detail
}  // namespace glnet::emulator
