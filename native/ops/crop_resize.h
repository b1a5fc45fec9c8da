// crop_resize: global to local sharing (the paper's deep feature map sharing). Each patch's crop of a map,
// resized bilinearly.
#pragma once

#include "ops/grid_source.h"

namespace glnet {

struct CropResize {
  static constexpr const char* kName = "crop_resize";

  GridSource source;
  Out y;  ///< [batch, height, width, C] of the source, of its dtype

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("source", op.source);
    visit("y", op.y);
  }

  void infer() {
    source.validate(kName);
    y.shape = {source.batch(), source.height(), source.width(), source.channels()};
    y.dtype = source.x.dtype;
  }

  double multiply_adds() const { return 4.0 * y.size(); }
};

}  // namespace glnet
