// Kernels over all tensors of a list, such as the parameters of a network, in one launch: a table in the
// workspace, a row a tensor, and the tensors' elements in chunks. Blocks take chunks, and find a chunk's row
// by bisection. The table comes as parameters of small launches: no copy to the device, nothing to keep
// alive.
#pragma once

#include <vector>

#include "cuda/common.cuh"

namespace glnet::cuda {

/// Elements of a chunk; the last of a tensor may have fewer.
constexpr int64_t kChunk = 16 * kThreads;

/// The elements of a tensor among those of all: what a row begins with.
struct Extent {
  int64_t size = 0;
  int64_t first_chunk = 0;  ///< of all tensors' chunks

  __host__ __device__ int64_t chunks() const { return (size + kChunk - 1) / kChunk; }
};

/// What one launch writes to the table.
template <class Row>
struct SomeRows {
  static constexpr size_t kMost = std::min<size_t>(kMostCorners, 3584 / sizeof(Row));
  Row rows[kMost];
};

template <class Row>
__global__ void write_rows_kernel(Row* table, int count, SomeRows<Row> some) {
  const auto i = static_cast<int>(threadIdx.x);
  if (i < count) table[i] = some.rows[i];
}

/// Queues the writing of a table.
template <class Row>
void write_rows(const Context& context, Row* table, const std::vector<Row>& rows) {
  constexpr size_t kMost = SomeRows<Row>::kMost;
  for (size_t first = 0; first < rows.size(); first += kMost) {
    SomeRows<Row> some{};
    const size_t count = std::min(kMost, rows.size() - first);
    std::copy_n(rows.data() + first, count, some.rows);
    launch(write_rows_kernel<Row>, 1, static_cast<unsigned>(kMost), 0, stream_of(context), table + first,
           static_cast<int>(count), some);
  }
}

/// Rows with the extents of tensors; returns the chunks of all.
template <class Row, class V>
int64_t lay_out(std::vector<Row>& rows, const std::vector<V>& tensors) {
  rows.resize(tensors.size());
  int64_t chunks = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    rows[i].extent = {tensors[i].size(), chunks};
    chunks += rows[i].extent.chunks();
  }
  return chunks;
}

/// Blocks for kernels that loop over chunks.
inline unsigned blocks_for_chunks(int64_t chunks) {
  return static_cast<unsigned>(std::min(chunks, kMostBlocks));
}

/// The row to which a chunk belongs: the last that begins at it or before; empty tensors lie before it.
template <class Row>
__device__ const Row& row_of(const Row* table, int rows, int64_t chunk) {
  int low = 0, high = rows - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (table[middle].extent.first_chunk <= chunk) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return table[low];
}

/// Calls `body(i)` for this thread's elements of a chunk.
template <class Body>
__device__ __forceinline__ void for_each_of_chunk(const Extent& extent, int64_t chunk, Body&& body) {
  const int64_t begin = (chunk - extent.first_chunk) * kChunk, end = std::min(begin + kChunk, extent.size);
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) body(i);
}

}  // namespace glnet::cuda
