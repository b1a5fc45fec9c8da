#include "cpu/argmax.h"

#include "cpu/kernels.h"
#include "cpu/parallel.h"

namespace glnet::cpu {
namespace {

template <class T>
GLNET_MULTIVERSION void label_pixels(uint8_t* labels, const T* x, int64_t pixels, int64_t classes) {
  label_rows(labels, x, pixels, classes);
}

}  // namespace

void argmax(const Argmax& op, const Context& context) {
  with_type(op.kName, op.x.dtype, [&](auto t) {
    using T = decltype(t);
    const int64_t classes = op.x.shape.back();
    parallel_ranges(context.threads, op.y.size(), [&](int64_t begin, int64_t end) {
      label_pixels(op.y.as<uint8_t>() + begin, op.x.as<const T>() + begin * classes, end - begin, classes);
    });
  });
}

}  // namespace glnet::cpu
