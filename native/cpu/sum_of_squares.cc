#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/pieces.h"

namespace glnet::cpu {
namespace {

constexpr int64_t kLanes = 16;

GLNET_MULTIVERSION double squares(const float* x, int64_t n) {
  double sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      sums[lane] += static_cast<double>(x[i + lane]) * static_cast<double>(x[i + lane]);
    }
  }
  double sum = 0;
  for (; i < n; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  for (const double s : sums) sum += s;
  return sum;
}

}  // namespace

void prepare_sum_of_squares(const SumOfSquares& op, Prepare& prepare) {
  prepare.workspace(pieces_of(op.inputs).size() * sizeof(double));
}

void sum_of_squares(const SumOfSquares& op, const Context& context) {
  const std::vector<Piece> pieces = pieces_of(op.inputs);
  auto* parts = static_cast<double*>(context.workspace);
  parallel_for(context.threads, static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    parts[i] = squares(op.inputs[piece.tensor].as<const float>() + piece.first, piece.count);
  });
  // In the order of the pieces: the same bits for any number of threads.
  std::vector<double> sums(op.inputs.size());
  for (size_t i = 0; i < pieces.size(); ++i) sums[pieces[i].tensor] += parts[i];
  for (size_t n = 0; n < sums.size(); ++n) op.sums.as<float>()[n] = static_cast<float>(sums[n]);
}

}  // namespace glnet::cpu
