// cast: y = x in another floating dtype, rounded to nearest even. float16 is read only.
//
// Threads and data: see elementwise.cuh. Moves each element in and out once: 6 bytes from float32 to bfloat16
// or from a 16-bit format to float32. Floor, for 16 Mi elements of float16 to float32, 101 MB: 30 us on an
// H100 (3.35 TB/s), 100 us on an RTX 4090 (1.01 TB/s).
// Left: cuda_bf16.h's conversion instructions; the integer arithmetic of core/dtype.h hides behind the
// memory.
#include "cuda/elementwise.cuh"

namespace glnet::cuda {
namespace {

struct Convert {
  template <class T>
  __device__ float operator()(T x) const {
    return static_cast<float>(x);
  }
};

template <class From>
void cast_from(const Cast& op, const Context& context) {
  with_type(op.kName, op.dtype, [&](auto t) {
    using To = decltype(t);
    map_elements(context, Convert{}, op.x.size(), op.y.as<To>(), op.x.as<const From>());
  });
}

}  // namespace

void cast(const Cast& op, const Context& context) {
  if (op.x.dtype == DType::float16) return cast_from<float16>(op, context);
  with_type(op.kName, op.x.dtype, [&](auto t) { cast_from<decltype(t)>(op, context); });
}

}  // namespace glnet::cuda
