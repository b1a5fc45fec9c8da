// Where patches begin, handed to kernels by value: no copy to the device, nothing to keep alive.
#pragma once

#include <vector>

#include "cuda/common.cuh"

namespace glnet::cuda {

/// The first row and column of the patches of one launch.
struct Corners {
  int tops[kMostCorners];
  int lefts[kMostCorners];
};

/// Calls `body(first, count, corners)` for runs of patches that fit a launch.
template <class Body>
void for_each_corners(const std::vector<int>& tops, const std::vector<int>& lefts, Body&& body) {
  for (size_t first = 0; first < tops.size(); first += kMostCorners) {
    const size_t count = std::min(tops.size() - first, kMostCorners);
    Corners corners{};
    std::copy_n(tops.data() + first, count, corners.tops);
    std::copy_n(lefts.data() + first, count, corners.lefts);
    body(static_cast<int64_t>(first), static_cast<int64_t>(count), corners);
  }
}

}  // namespace glnet::cuda
