#include "cpu/dnnl.h"
#include "cpu/kernels.h"

namespace glnet::cpu {
namespace {

std::shared_ptr<const ConvolutionBackwardWeights> convolution_of(const Conv2dBackwardWeights& op,
                                                                 int threads) {
  return ConvolutionBackwardWeights::get({.batch = op.x.dim(0),
                                          .height = op.x.dim(1),
                                          .width = op.x.dim(2),
                                          .channels = op.x.dim(3),
                                          .outputs = op.dweight.dim(0),
                                          .kernel_height = op.dweight.dim(2),
                                          .kernel_width = op.dweight.dim(3),
                                          .stride = op.stride,
                                          .padding = op.padding,
                                          .threads = threads});
}

}  // namespace

void prepare_conv2d_backward_weights(const Conv2dBackwardWeights& op, Prepare& prepare) {
  check_dtype(op.kName, "x", op.x, DType::float32);
  prepare.workspace(convolution_of(op, prepare.threads())->workspace_bytes());
}

void conv2d_backward_weights(const Conv2dBackwardWeights& op, const Context& context) {
  convolution_of(op, context.threads)
      ->run(op.x.as<float>(), op.dy.as<float>(), op.dweight.as<float>(), context.workspace);
}

}  // namespace glnet::cpu
