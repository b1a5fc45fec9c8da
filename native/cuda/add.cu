// add: y = a + b, of the same shape.
//
// Threads and data: see elementwise.cuh. Moves two elements in and one out: 12 bytes in float32, 6 in
// bfloat16. Floor, for 127x127x256 in float32, 50 MB: 15 us on an H100 (3.35 TB/s), 49 us on an RTX 4090
// (1.01 TB/s).
#include "cuda/elementwise.cuh"

namespace glnet::cuda {
namespace {

struct Sum {
  template <class T>
  __device__ float operator()(T a, T b) const {
    return static_cast<float>(a) + static_cast<float>(b);
  }
};

}  // namespace

void add(const Add& op, const Context& context) {
  with_type(op.kName, op.a.dtype, [&](auto t) {
    using T = decltype(t);
    map_elements(context, Sum{}, op.a.size(), op.y.as<T>(), op.a.as<const T>(), op.b.as<const T>());
  });
}

}  // namespace glnet::cuda
