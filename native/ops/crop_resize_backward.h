// crop_resize_backward: the gradient of crop_resize with respect to its map, and of a bilinear resize: a
// source without a crop. Each pixel of the map gathers what it gave to each patch:
//
//   dx = the adjoint of resize(crop(.)) applied to dy + addend
//
// The patches are added in their order, so that the bits depend neither on threads nor on the run. What no
// crop reads is zero, or the addend.
#pragma once

#include "ops/grid_source.h"

namespace glnet {

struct CropResizeBackward {
  static constexpr const char* kName = "crop_resize_backward";

  In dy;               ///< [batch, height, width, C] of the source, float32: the gradient of crop_resize's y
  MapGeometry source;  ///< what crop_resize was given
  Maybe addend;        ///< of dx's shape and dtype: what is known of the map's gradient already
  Out dx;              ///< of the map's shape, of dy's dtype

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("dy", op.dy);
    visit("source", op.source);
    visit("addend", op.addend);
    visit("dx", op.dx);
  }

  void infer() {
    source.validate(kName);
    check_float32(kName, "dy", dy);
    check_shape(kName, "dy", dy, {source.batch(), source.height(), source.width(), source.channels()});
    dx.shape = source.map_shape();
    dx.dtype = dy.dtype;
    if (addend) {
      check_shape(kName, "addend", addend, dx.shape);
      check_dtype(kName, "addend", addend, dx.dtype);
    }
  }

  double multiply_adds() const { return 4.0 * dy.size(); }
};

}  // namespace glnet
