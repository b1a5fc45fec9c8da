// Products of 16 x 16 matrices by a whole warp, as CUDA's wmma has them: bfloat16 times bfloat16, summed in
// float32. The matrices lie in fragments, spread over the lanes in a way that kernels must not know.
//
// All 32 lanes of a warp must reach a call together, like the other _sync intrinsics. Refused beside what
// those refuse: matrices in shared memory that begin at no multiple of 32 bytes, or whose rows are no
// multiple of 16 bytes apart. Fragments start as NaN. A load reads, and a store writes, elements of shared
// memory as other accesses do, each by one lane, but orders nothing between lanes.
#pragma once

#include <cmath>

#include "core/dtype.h"
#include "emulator/emulator.h"

namespace glnet::emulator {

namespace detail {
constexpr int kMatrixSide = 16;
constexpr int kLaneElements = kMatrixSide * kMatrixSide / warpSize;

/// A lane's share: half a row of the matrix as it lies in memory.
template <class Role>
struct Fragment {
  float share[kLaneElements];
  Fragment() {
    for (float& v : share) v = NAN;
  }
};
struct Left;
struct Right;
struct Sum;

/// Checks where a matrix lies, and waits for the other lanes. Returns how many elements of E make a lane's
/// share, and sets the first one's index.
template <class E>
size_t meet(const SharedAddress<E>& at, unsigned stride, size_t element_bytes, size_t& first,
            std::source_location site) {
  const size_t row_bytes = stride * element_bytes;
  check_matrix(at.i * sizeof(E), row_bytes, site);
  collect(Collective::matrix, 0xffffffffu, 0, lane(), site);
  const auto share = static_cast<size_t>(lane());
  const size_t share_bytes = kLaneElements * element_bytes;
  first = at.i + (share / 2 * row_bytes + share % 2 * share_bytes) / sizeof(E);
  return share_bytes / sizeof(E);
}

/// Reads a matrix of bfloat16, several of which make an element of the array.
template <class Role, class E>
void load(Fragment<Role>& to, const SharedAddress<E>& from, unsigned stride, std::source_location site) {
  size_t first = 0;
  const size_t n = meet(from, stride, sizeof(bfloat16), first, site);
  bfloat16 values[kLaneElements];
  for (size_t i = 0; i < n; ++i) {
    const E element = Shared<E>(from.array)[first + i];
    std::memcpy(reinterpret_cast<std::byte*>(values) + i * sizeof(E), &element, sizeof(E));
  }
  for (int i = 0; i < kLaneElements; ++i) to.share[i] = static_cast<float>(values[i]);
}

/// What a lane brings to mma_sync.
struct Operands {
  Fragment<Sum>* d;
  const Fragment<Left>* a;
  const Fragment<Right>* b;
  const Fragment<Sum>* c;
};
void multiply(const uint64_t* lanes);
}  // namespace detail

/// In memory a row after the other, as are the sums.
using LeftFragment = detail::Fragment<detail::Left>;
/// In memory a column after the other.
using RightFragment = detail::Fragment<detail::Right>;
using SumFragment = detail::Fragment<detail::Sum>;

inline void fill_fragment(SumFragment& fragment, float value) {
  for (float& v : fragment.share) v = value;
}

/// `stride`: elements from one column or row to the next.
template <class E>
void load_matrix_sync(LeftFragment& to, const SharedAddress<E>& from, unsigned stride,
                      std::source_location site = std::source_location::current()) {
  detail::load(to, from, stride, site);
}
template <class E>
void load_matrix_sync(RightFragment& to, const SharedAddress<E>& from, unsigned stride,
                      std::source_location site = std::source_location::current()) {
  detail::load(to, from, stride, site);
}

template <class E>
void store_matrix_sync(const SharedAddress<E>& to, const SumFragment& from, unsigned stride,
                       std::source_location site = std::source_location::current()) {
  size_t first = 0;
  const size_t n = detail::meet(to, stride, sizeof(float), first, site);
  for (size_t i = 0; i < n; ++i) {
    E element;
    std::memcpy(&element, reinterpret_cast<const std::byte*>(from.share) + i * sizeof(E), sizeof(E));
    Shared<E>(to.array)[first + i] = element;
  }
}

/// d = a b + c; d may be c.
inline void mma_sync(SumFragment& d, const LeftFragment& a, const RightFragment& b, const SumFragment& c,
                     std::source_location site = std::source_location::current()) {
  const detail::Operands operands{&d, &a, &b, &c};
  detail::collect(detail::Collective::matrix, 0xffffffffu, reinterpret_cast<uint64_t>(&operands),
                  detail::lane(), site, detail::multiply);
}

}  // namespace glnet::emulator
