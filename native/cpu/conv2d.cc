#include "cpu/aggregate_conv.h"
#include "cpu/convolution.h"
#include "cpu/kernels.h"

namespace glnet::cpu {
namespace {

/// Whether aggregate_conv computes the same for less: with few outputs; see best_way.
bool as_aggregate(const Conv2d& op, AggregateConv& aggregate) {
  const int64_t kernel = op.weight.dim(2);
  if (op.overwrite || op.stride != 1 || op.weight.dim(3) != kernel || kernel % 2 == 0 ||
      op.padding != kernel / 2)
    return false;
  aggregate.sources.resize(1);
  aggregate.sources[0].x = op.x;
  if (best_way(tap_cost(aggregate.sources[0]), op.weight) == Way::plain) return false;
  aggregate.weight = op.weight;
  aggregate.bias = op.bias;
  aggregate.addend = op.residual;
  aggregate.relu = op.relu;
  aggregate.y = op.y;
  return true;
}

std::shared_ptr<const Convolution> convolution_of(const Conv2d& op, int threads) {
  return Convolution::get({.batch = op.x.dim(0),
                           .height = op.x.dim(1),
                           .width = op.x.dim(2),
                           .channels = op.x.dim(3),
                           .outputs = op.weight.dim(0),
                           .kernel_height = op.weight.dim(2),
                           .kernel_width = op.weight.dim(3),
                           .stride = op.stride,
                           .padding_height = op.padding,
                           .padding_width = op.padding,
                           .input = op.x.dtype,
                           .output = op.y.dtype,
                           .bias = static_cast<bool>(op.bias),
                           .accumulate = op.overwrite,
                           .residual = op.residual && !op.overwrite,
                           .relu = op.relu,
                           .threads = threads});
}

}  // namespace

void prepare_conv2d(const Conv2d& op, Prepare& prepare) {
  AggregateConv aggregate;
  if (as_aggregate(op, aggregate)) return prepare_aggregate_conv(aggregate, prepare);
  const auto convolution = convolution_of(op, prepare.threads());
  prepare.workspace(convolution->workspace_bytes());
  prepare.pack(op.weight, convolution->layout(), convolution->packed_bytes(),
               [convolution](const Context&, const void* from, void* to) { convolution->pack(from, to); });
}

void conv2d(const Conv2d& op, const Context& context) {
  AggregateConv aggregate;
  if (as_aggregate(op, aggregate)) return aggregate_conv(aggregate, context);
  convolution_of(op, context.threads)
      ->run(op.x.data, context.packed[0], op.bias.as<float>(), op.residual.data, op.y.data,
            context.workspace);
}

}  // namespace glnet::cpu
