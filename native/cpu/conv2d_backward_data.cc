#include "cpu/dnnl.h"
#include "cpu/elementwise.h"
#include "cpu/kernels.h"

namespace glnet::cpu {
namespace {

/// A matrix product of the pixels: then it is the convolution of dy by the transposed weight, which adds the
/// addend on its way.
bool is_product(const Conv2dBackwardData& op) {
  return op.weight.dim(2) == 1 && op.weight.dim(3) == 1 && op.stride == 1 && op.padding == 0;
}

std::shared_ptr<const Convolution> product_of(const Conv2dBackwardData& op, int threads) {
  return Convolution::get({.batch = op.dy.dim(0),
                           .height = op.height,
                           .width = op.width,
                           .channels = op.weight.dim(0),
                           .outputs = op.weight.dim(1),
                           .residual = static_cast<bool>(op.addend),
                           .threads = threads});
}

std::shared_ptr<const ConvolutionBackwardData> adjoint_of(const Conv2dBackwardData& op, int threads) {
  return ConvolutionBackwardData::get({.batch = op.dy.dim(0),
                                       .height = op.height,
                                       .width = op.width,
                                       .channels = op.weight.dim(1),
                                       .outputs = op.weight.dim(0),
                                       .kernel_height = op.weight.dim(2),
                                       .kernel_width = op.weight.dim(3),
                                       .stride = op.stride,
                                       .padding_height = op.padding,
                                       .padding_width = op.padding,
                                       .threads = threads});
}

}  // namespace

void prepare_conv2d_backward_data(const Conv2dBackwardData& op, Prepare& prepare) {
  check_dtype(op.kName, "dy", op.dy, DType::float32);
  if (is_product(op)) {
    const auto product = product_of(op, prepare.threads());
    prepare.workspace(product->workspace_bytes());
    prepare.pack(op.weight, product->layout() + ", transposed", product->packed_bytes(),
                 [product](const Context&, const void* from, void* to) {
                   product->pack_transposed(static_cast<const float*>(from), to);
                 });
  } else {
    const auto adjoint = adjoint_of(op, prepare.threads());
    prepare.workspace(adjoint->workspace_bytes());
    prepare.pack(op.weight, adjoint->layout(), adjoint->packed_bytes(),
                 [adjoint](const Context&, const void* from, void* to) {
                   adjoint->pack(static_cast<const float*>(from), to);
                 });
  }
}

void conv2d_backward_data(const Conv2dBackwardData& op, const Context& context) {
  const float *dy = op.dy.as<float>(), *addend = op.addend.as<float>();
  float* dx = op.dx.as<float>();
  if (is_product(op)) {
    product_of(op, context.threads)->run(dy, context.packed[0], nullptr, addend, dx, context.workspace);
    return;
  }
  adjoint_of(op, context.threads)->run(dy, context.packed[0], dx, context.workspace);
  if (op.addend) {
    map_elements(context.threads, op.dx.size(), dx, [](float a, float b) { return a + b; }, dx, addend);
  }
}

}  // namespace glnet::cpu
