#include "core/backend.h"
#include "cpu/kernels.h"
#include "reference/kernels.h"
namespace glnet::cpu {
void crop_resize_backward(const CropResizeBackward& op, const Context& context) {
  reference::crop_resize_backward(op, context);
}
}  // namespace glnet::cpu
