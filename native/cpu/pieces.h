// Lists of tensors, the parameters of a network for one, in pieces of much the same size: threads share the
// work whatever the sizes of the tensors.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace glnet::cpu {

struct Piece {
  size_t tensor;
  int64_t first, count;  ///< elements of the tensor
};

/// In the order of the tensors; none of an empty one.
template <class V>
std::vector<Piece> pieces_of(const std::vector<V>& tensors) {
  constexpr int64_t kMost = 1 << 16;
  std::vector<Piece> pieces;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const int64_t size = tensors[i].size();
    for (int64_t first = 0; first < size; first += kMost) {
      pieces.push_back({i, first, std::min(kMost, size - first)});
    }
  }
  return pieces;
}

}  // namespace glnet::cpu
