// sum_of_squares: the sum of squares of each of a list of tensors.
//
// Threads: a block takes chunks of any tensor, see tensor_table.cuh, and sums each in double; then a block a
// tensor adds the sums of its chunks. Sums are taken in a fixed order: the same bits each time. Moves each
// element in once. Floor, for 30 million numbers, 120 MB: 36 us on an H100 (3.35 TB/s), 119 us on an RTX 4090
// (1.01 TB/s), where as many conversions, products and sums in double take about 70 us.
#include "cuda/reduce.cuh"
#include "cuda/tensor_table.cuh"

namespace glnet::cuda {
namespace {

struct Row {
  Extent extent;
  const float* x;
};

/// parts: [chunks].
__global__ void __launch_bounds__(kThreads)
    squares_kernel(const Row* table, int rows, int64_t chunks, double* parts) {
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const Row& row = row_of(table, rows, chunk);
    double sum = 0;
    for_each_of_chunk(row.extent, chunk, [&](int64_t i) {
      const double x = row.x[i];
      sum += x * x;
    });
    sum = block_reduce(sum, Plus{});
    if (threadIdx.x == 0) parts[chunk] = sum;
  }
}

__global__ void __launch_bounds__(kThreads)
    add_parts_kernel(const Row* table, int rows, const double* parts, float* sums) {
  for (int n = static_cast<int>(blockIdx.x); n < rows; n += static_cast<int>(gridDim.x)) {
    const Extent& extent = table[n].extent;
    double sum = 0;
    for (int64_t i = threadIdx.x; i < extent.chunks(); i += kThreads) sum += parts[extent.first_chunk + i];
    sum = block_reduce(sum, Plus{});
    if (threadIdx.x == 0) sums[n] = static_cast<float>(sum);
  }
}

}  // namespace

void prepare_sum_of_squares(const SumOfSquares& op, Prepare& prepare) {
  std::vector<Row> rows;
  const auto chunks = static_cast<size_t>(lay_out(rows, op.inputs));
  prepare.workspace(rows.size() * sizeof(Row) + chunks * sizeof(double));
}

void sum_of_squares(const SumOfSquares& op, const Context& context) {
  std::vector<Row> rows;
  const int64_t chunks = lay_out(rows, op.inputs);
  for (size_t i = 0; i < rows.size(); ++i) rows[i].x = op.inputs[i].as<const float>();
  auto* table = static_cast<Row*>(context.workspace);
  auto* parts = reinterpret_cast<double*>(table + rows.size());
  const auto count = static_cast<int>(rows.size());
  write_rows(context, table, rows);
  if (chunks) {
    launch(squares_kernel, blocks_for_chunks(chunks), kThreads, 0, stream_of(context), table, count, chunks,
           parts);
  }
  launch(add_parts_kernel, static_cast<unsigned>(std::min<int64_t>(count, kMostBlocks)), kThreads, 0,
         stream_of(context), table, count, parts, op.sums.as<float>());
}

}  // namespace glnet::cuda
