// Runs CUDA kernels on the CPU, to prove their logic: indexing, barriers, races, masks. Not their speed.
//
// Every CUDA thread is a fiber; a block's threads take turns on the calling thread, and are switched only
// where they wait: at __syncthreads and at the warp's _sync intrinsics. A schedule says in which order blocks
// and threads run; a kernel that is right computes the same under each. What a kernel does wrong is thrown
// by `launch` as an Error that names the launch, the block, the thread and the place:
//
//   - __syncthreads that not all threads of the block reach, or not at the same place;
//   - _sync intrinsics whose mask lacks the caller, names a lane that exits, waits elsewhere or does not
//     exist (stricter than CUDA, which ignores lanes that have exited), or differs between lanes;
//   - shuffles from a lane outside the mask;
//   - shared memory read or written outside its array, or by two threads without a barrier in between (one
//     of them writing, not both atomically); __syncwarp orders the lanes of its mask;
//   - launches that no device would take.
//
// Shared memory starts as NaN in every block. What is accessed through a plain pointer instead of `Shared` is
// guarded by canaries, checked when the block ends; global memory is AddressSanitizer's business.
//
// One restriction, which CUDA does not have: a barrier's place is its line of source. Two calls of one
// inlined function count as the same place.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>

#include "core/error.h"

namespace glnet::emulator {

struct uint3 {
  unsigned x = 0, y = 0, z = 0;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct Stream;
using cudaStream_t = Stream*;

inline constinit thread_local uint3 threadIdx;
inline constinit thread_local uint3 blockIdx;
inline constinit thread_local dim3 blockDim;
inline constinit thread_local dim3 gridDim;
inline constexpr int warpSize = 32;

/// The order in which blocks, and the threads of a block, take their turns.
struct Schedule {
  enum class Order { forward, reverse, random };
  Order order = Order::forward;
  uint64_t seed = 0;  ///< of the random order
};
/// The schedule of all launches from now on, on any thread. Must not be called while a kernel runs.
void set_schedule(Schedule schedule);
Schedule schedule();

/// What the smallest of current devices allow; as in the CUDA programming guide, compute capability 9.0.
struct Limits {
  static constexpr unsigned kBlockThreads = 1024;
  static constexpr unsigned kBlockDepth = 64;
  static constexpr unsigned kGridWidth = 0x7fffffff;
  static constexpr unsigned kGridHeight = 65535;
  static constexpr size_t kSharedBytes = 48 << 10;        ///< static, and dynamic without `allow_shared`
  static constexpr size_t kOptInSharedBytes = 227 << 10;  ///< static and dynamic together
  static constexpr size_t kParameterBytes = 4096;
};

/// The grid of a launch, and where it was launched.
struct LaunchGrid {
  dim3 size;
  std::source_location at;
  LaunchGrid(dim3 size, std::source_location at = std::source_location::current()) : size(size), at(at) {}
  template <std::integral I>
  LaunchGrid(I blocks, std::source_location at = std::source_location::current())
      : size(std::in_range<unsigned>(blocks) ? static_cast<unsigned>(blocks) : ~0u), at(at) {}
};

namespace detail {
void run_grid(const void* kernel, const LaunchGrid& grid, dim3 block, size_t shared_bytes,
              void (*call)(void*), void* self);
void allow_shared(const void* kernel, size_t bytes);
/// Queues a kernel on a stream, see runtime.h; runs it at once if there is none.
void submit(cudaStream_t stream, std::function<void()> kernel);

enum class Collective : uint8_t { none, shuffle, ballot, any, all, syncwarp, matrix };
/// Waits for the lanes of `mask`; `source` is the lane whose value the caller asks for. Returns that value,
/// or the bits of the lanes of the mask that gave another value than 0. The last lane to come calls `finish`
/// with the values of all 32.
uint64_t collect(Collective kind, unsigned mask, uint64_t value, int source, std::source_location site,
                 void (*finish)(const uint64_t* lanes) = nullptr);
int lane();

/// An array in the block's arena: the same for all threads that come by `tag`.
struct Array {
  std::byte* data;
  size_t count;
  size_t shadow;  ///< of the first element
};
Array static_array(const void* tag, size_t size, size_t count);
Array dynamic_array(size_t size);
enum class Access : uint8_t { read, write, atomic };
void note(const Array& array, size_t element, Access access);
[[noreturn]] void outside(size_t count, int64_t element);
/// Fails unless a matrix may begin at this byte of an array, and its rows be so far apart.
void check_matrix(size_t begin, size_t row_bytes, const std::source_location& site);
}  // namespace detail

/// The address of an element of shared memory, for atomics and matrices alone.
template <class T>
struct SharedAddress {
  detail::Array array;
  size_t i;

  T* for_atomics() const {
    detail::note(array, i, detail::Access::atomic);
    return reinterpret_cast<T*>(array.data) + i;
  }
};

/// An element of shared memory: knows who reads and writes it.
template <class T>
class SharedReference {
 public:
  SharedReference(const detail::Array& array, size_t i) : array_(array), i_(i) {}
  SharedReference(const SharedReference&) = default;

  operator T() const {
    detail::note(array_, i_, detail::Access::read);
    return *raw();
  }
  const SharedReference& operator=(T value) const {
    detail::note(array_, i_, detail::Access::write);
    *raw() = value;
    return *this;
  }
  const SharedReference& operator=(const SharedReference& other) const {
    return *this = static_cast<T>(other);
  }
  const SharedReference& operator+=(T value) const { return *this = static_cast<T>(*this) + value; }

  SharedAddress<T> operator&() const { return {array_, i_}; }

 private:
  T* raw() const { return reinterpret_cast<T*>(array_.data) + i_; }

  detail::Array array_;
  size_t i_;
};

/// An array in shared memory, as SHARED_ARRAY and DYNAMIC_SHARED declare it.
template <class T>
class Shared {
 public:
  explicit Shared(const detail::Array& array) : array_(array) {}

  template <std::integral I>
  SharedReference<T> operator[](I i) const {
    if (i < 0 || static_cast<size_t>(i) >= array_.count) {
      detail::outside(array_.count, static_cast<int64_t>(i));
    }
    return {array_, static_cast<size_t>(i)};
  }
  /// Without checks of bounds and races: only the canaries remain.
  operator T*() const { return reinterpret_cast<T*>(array_.data); }

 private:
  detail::Array array_;
};

/// Queues the kernel on a stream. Without one, runs it to its end, and throws ErrorCode::native if the launch
/// or the kernel is wrong.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), LaunchGrid grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  static_assert((std::is_trivially_copyable_v<Parameters> && ...),
                "kernels take what can be copied as bytes");
  static_assert((sizeof(Parameters) + ... + 0) <= Limits::kParameterBytes, "a kernel's parameters: 4 KB");
  const std::tuple<Parameters...> values{static_cast<Parameters>(arguments)...};
  detail::submit(stream, [=] {
    auto call = [&] { std::apply(kernel, values); };
    detail::run_grid(
        reinterpret_cast<const void*>(kernel), grid, block, shared_bytes,
        [](void* self) { (*static_cast<decltype(call)*>(self))(); }, &call);
  });
}

/// Lets a kernel have more than 48 KB of shared memory, of which so much is dynamic.
template <class... Parameters>
void allow_shared(void (*kernel)(Parameters...), size_t bytes) {
  detail::allow_shared(reinterpret_cast<const void*>(kernel), bytes);
}

void __syncthreads(std::source_location site = std::source_location::current());

inline void __syncwarp(unsigned mask = 0xffffffffu,
                       std::source_location site = std::source_location::current()) {
  detail::collect(detail::Collective::syncwarp, mask, 0, detail::lane(), site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate,
                              std::source_location site = std::source_location::current()) {
  return static_cast<unsigned>(
      detail::collect(detail::Collective::ballot, mask, predicate != 0, detail::lane(), site));
}
inline int __any_sync(unsigned mask, int predicate,
                      std::source_location site = std::source_location::current()) {
  return detail::collect(detail::Collective::any, mask, predicate != 0, detail::lane(), site) != 0;
}
inline int __all_sync(unsigned mask, int predicate,
                      std::source_location site = std::source_location::current()) {
  return detail::collect(detail::Collective::all, mask, predicate != 0, detail::lane(), site) == mask;
}

namespace detail {
template <class T>
T shuffle(unsigned mask, T value, int source, std::source_location site) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) >= 4, "shuffles move 4 or 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = collect(Collective::shuffle, mask, bits, source, site);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
}  // namespace detail

/// `width` splits the warp into parts, as in CUDA.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize,
              std::source_location site = std::source_location::current()) {
  const int first = detail::lane() & -width;
  return detail::shuffle(mask, value, first + (source & (width - 1)), site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   std::source_location site = std::source_location::current()) {
  const int lane = detail::lane(), source = lane + static_cast<int>(delta);
  return detail::shuffle(mask, value, (lane & (width - 1)) + static_cast<int>(delta) < width ? source : lane,
                         site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = warpSize,
                  std::source_location site = std::source_location::current()) {
  const int lane = detail::lane(), source = lane ^ lanes;
  return detail::shuffle(mask, value, source < (lane & -width) + width ? source : lane, site);
}

inline int __popc(unsigned bits) {
  return std::popcount(bits);
}
/// The product, rounded: never part of a fused multiply-add.
inline double __dmul_rn(double a, double b) {
  return a * b;
}

/// Adds and returns the value before. Threads are switched only where they wait: nothing comes between.
template <class T>
  requires std::is_same_v<T, float> || std::is_same_v<T, int> || std::is_same_v<T, unsigned>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  const T before = *address;
  if constexpr (std::is_same_v<T, int>) {  // wraps around, as in CUDA
    *address = static_cast<int>(static_cast<unsigned>(before) + static_cast<unsigned>(value));
  } else {
    *address = before + value;
  }
  return before;
}
template <class T>
  requires std::is_same_v<T, int> || std::is_same_v<T, unsigned>
T atomicMax(T* address, std::type_identity_t<T> value) {
  const T before = *address;
  if (value > before) *address = value;
  return before;
}
template <class T>
T atomicAdd(const SharedAddress<T>& address, std::type_identity_t<T> value) {
  return atomicAdd(address.for_atomics(), value);
}
template <class T>
T atomicMax(const SharedAddress<T>& address, std::type_identity_t<T> value) {
  return atomicMax(address.for_atomics(), value);
}

}  // namespace glnet::emulator
