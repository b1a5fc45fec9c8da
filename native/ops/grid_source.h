// A map as seen from another grid: a crop for each patch, then bilinear resizes. Shared by crop_resize and
// aggregate_conv.
#pragma once

#include "core/fields.h"

namespace glnet {

struct GridSource {
  In x;                    ///< [N, H, W, C], or [1, H, W, C] if cropped or the same for every patch
  std::vector<int> tops;   ///< first row of each patch's crop; empty: no crop
  std::vector<int> lefts;  ///< first column of each patch's crop
  int crop_height = 0;     ///< rows of every crop
  int crop_width = 0;      ///< columns of every crop
  std::vector<int> sizes;  ///< resizes after the crop, one after the other: h1, w1, h2, w2, ...; may be empty

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& visit) {
    visit("x", s.x);
    visit("tops", s.tops);
    visit("lefts", s.lefts);
    visit("cropHeight", s.crop_height);
    visit("cropWidth", s.crop_width);
    visit("sizes", s.sizes);
  }

  bool cropped() const { return !tops.empty(); }
  int64_t channels() const { return x.dim(3); }
  /// Number of patches that the source says there are; 1 fits any number.
  int64_t batch() const { return cropped() ? static_cast<int64_t>(tops.size()) : x.dim(0); }
  /// Height and width before the resizes.
  int64_t base_height() const { return cropped() ? crop_height : x.dim(1); }
  int64_t base_width() const { return cropped() ? crop_width : x.dim(2); }
  /// Height and width on the target grid.
  int64_t height() const { return sizes.empty() ? base_height() : sizes[sizes.size() - 2]; }
  int64_t width() const { return sizes.empty() ? base_width() : sizes.back(); }

  void validate(const char* op) const {
    check_rank(op, "source", x, 4);
    check(tops.size() == lefts.size(), op, ": a source has ", tops.size(), " tops and ", lefts.size(),
          " lefts");
    check(sizes.size() % 2 == 0, op, ": sizes are pairs of height and width, and there are ", sizes.size());
    for (const int s : sizes) check(s > 0, op, ": a size of ", s, " must be positive");
    if (!cropped()) return;
    check(x.dim(0) == 1, op, ": crops are taken from one map, and the source has ", x.dim(0));
    check(crop_height > 0 && crop_width > 0, op, ": the crop of ", crop_height, " x ", crop_width,
          " is empty");
    for (size_t i = 0; i < tops.size(); ++i) {
      check(tops[i] >= 0 && lefts[i] >= 0 && tops[i] <= x.dim(1) - crop_height &&
                lefts[i] <= x.dim(2) - crop_width,
            op, ": the crop at row ", tops[i], ", column ", lefts[i], " of ", crop_height, " x ", crop_width,
            " leaves the map ", x.shape);
    }
  }
};

}  // namespace glnet
