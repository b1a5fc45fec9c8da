#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {

void conv2d_backward_data(const Conv2dBackwardData& op, const Context& context) {
  const int64_t outputs = op.weight.dim(0), channels = op.weight.dim(1), kernel_height = op.weight.dim(2),
                kernel_width = op.weight.dim(3), h = op.dy.dim(1), w = op.dy.dim(2);
  parallel_for(context.threads, op.dx.dim(0) * op.height, [&](int64_t i) {
    const int64_t n = i / op.height, y = i % op.height;
    for (int64_t z = 0; z < op.width; ++z) {
      for (int64_t c = 0; c < channels; ++c) {
        const int64_t to = (i * op.width + z) * channels + c;
        double sum = op.addend ? op.addend.as<float>()[to] : 0;
        for (int64_t r = 0; r < kernel_height; ++r) {
          for (int64_t s = 0; s < kernel_width; ++s) {
            const int64_t down = y + op.padding - r, across = z + op.padding - s;
            if (down < 0 || across < 0 || down % op.stride || across % op.stride) continue;
            const int64_t row = down / op.stride, column = across / op.stride;
            if (row >= h || column >= w) continue;
            const float* slope = op.dy.as<float>() + ((n * h + row) * w + column) * outputs;
            const float* tap = op.weight.as<float>() + (c * kernel_height + r) * kernel_width + s;
            for (int64_t k = 0; k < outputs; ++k)
              sum += slope[k] * tap[k * channels * kernel_height * kernel_width];
          }
        }
        op.dx.as<float>()[to] = static_cast<float>(sum);
      }
    }
  });
}

}  // namespace glnet::cpu
