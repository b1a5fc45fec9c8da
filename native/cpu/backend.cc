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
    b.conv2d.prepare = cpu::prepare_conv2d;
    b.conv2d_backward_data.prepare = cpu::prepare_conv2d_backward_data;
    b.conv2d_backward_weights.prepare = cpu::prepare_conv2d_backward_weights;
    b.crop_resize_backward.prepare = cpu::prepare_crop_resize_backward;
    b.focal_loss.prepare = cpu::prepare_focal_loss;
    b.triangle_resize.prepare = cpu::prepare_triangle_resize;
    return b;
  }();
  return backend;
}

}  // namespace glnet
