#include "core/backend.h"

#include "cpu/kernels.h"

namespace glnet {
const Backend& cpu_backend() {
  static const Backend backend = [] {
    Backend b{.name = "cpu",
              .open = open_host,
              .count = [] { return 1; },
#define GLNET_ENTRY(Type, name) .name = {cpu::name, nullptr},
              GLNET_OPS(GLNET_ENTRY)
#undef GLNET_ENTRY
    };
    b.aggregate_conv.prepare = cpu::prepare_aggregate_conv;
    b.aggregate_conv_backward_data.prepare = cpu::prepare_aggregate_conv_backward_data;
    b.aggregate_conv_backward_weights.prepare = cpu::prepare_aggregate_conv_backward_weights;
    b.batch_norm_backward.prepare = cpu::prepare_batch_norm_backward;
    b.batch_norm_train.prepare = cpu::prepare_batch_norm_train;
    b.channel_sum.prepare = cpu::prepare_channel_sum;
    b.conv2d.prepare = cpu::prepare_conv2d;
    b.conv2d_backward_data.prepare = cpu::prepare_conv2d_backward_data;
    b.conv2d_backward_weights.prepare = cpu::prepare_conv2d_backward_weights;
    b.crop_resize_backward.prepare = cpu::prepare_crop_resize_backward;
    b.dice_loss.prepare = cpu::prepare_dice_loss;
    b.focal_loss.prepare = cpu::prepare_focal_loss;
    b.lovasz_loss.prepare = cpu::prepare_lovasz_loss;
    b.mse.prepare = cpu::prepare_mse;
    b.sum_of_squares.prepare = cpu::prepare_sum_of_squares;
    b.triangle_resize.prepare = cpu::prepare_triangle_resize;
    b.unfold_resize.prepare = cpu::prepare_unfold_resize;
    return b;
  }();
  return backend;
}

}  // namespace glnet
