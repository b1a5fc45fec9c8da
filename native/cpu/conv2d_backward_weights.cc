#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {

void conv2d_backward_weights(const Conv2dBackwardWeights& op, const Context& context) {
  const int64_t outputs = op.dweight.dim(0), channels = op.dweight.dim(1), kernel_height = op.dweight.dim(2),
                kernel_width = op.dweight.dim(3), h = op.dy.dim(1), w = op.dy.dim(2);
  parallel_for(context.threads, op.dweight.size(), [&](int64_t to) {
    const int64_t s = to % kernel_width, r = to / kernel_width % kernel_height,
                  c = to / kernel_width / kernel_height % channels,
                  k = to / kernel_width / kernel_height / channels;
    double sum = 0;
    for (int64_t n = 0; n < op.x.dim(0); ++n) {
      for (int64_t row = 0; row < h; ++row) {
        const int64_t y = row * op.stride - op.padding + r;
        if (y < 0 || y >= op.x.dim(1)) continue;
        for (int64_t column = 0; column < w; ++column) {
          const int64_t z = column * op.stride - op.padding + s;
          if (z < 0 || z >= op.x.dim(2)) continue;
          sum += op.dy.as<float>()[((n * h + row) * w + column) * outputs + k] *
                 op.x.as<float>()[((n * op.x.dim(1) + y) * op.x.dim(2) + z) * channels + c];
        }
      }
    }
    op.dweight.as<float>()[to] += static_cast<float>(sum);
  });
}

}  // namespace glnet::cpu
