// crop_resize: global to local sharing (the paper's deep feature map sharing). Each patch's crop of a map,
// resized bilinearly; several of these side by side.
#pragma once

#include "ops/grid_source.h"

namespace glnet {

struct CropResize {
  static constexpr const char* kName = "crop_resize";

  std::vector<GridSource> sources;  ///< all of one height and width on the target grid, and of one dtype
  Out y;  ///< [batch, height, width, sum of channels], channels in the order of the sources; of their dtype

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("sources", op.sources);
    visit("y", op.y);
  }

  void infer() {
    y.shape = joined_shape(kName, sources);
    y.dtype = sources[0].x.dtype;
    for (const GridSource& s : sources) check_dtype(kName, "source", s.x, y.dtype);
  }

  double multiply_adds() const { return 4.0 * y.size(); }
};

}  // namespace glnet
