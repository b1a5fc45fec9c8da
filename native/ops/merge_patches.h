// merge_patches: local to global sharing (the paper's deep feature map sharing). Each patch's map is resized
// bilinearly and added to a map of the whole image; with the last patches the sum is divided by the coverage.
// Not differentiated: the merged maps are constants in training.
#pragma once

#include "core/fields.h"

namespace glnet {

struct MergePatches {
  static constexpr const char* kName = "merge_patches";

  InOut sum;  ///< [1, H, W, C], float32; zero before the first patch; patches are added in their order
  In x;       ///< [N, h, w, C]
  std::vector<int> tops;   ///< first row of each patch in sum
  std::vector<int> lefts;  ///< first column of each patch in sum
  int height = 0;          ///< rows of sum that each patch covers
  int width = 0;           ///< columns of sum that each patch covers
  /// How many patches cover each row ([H]) and each column ([W]) of sum, the counts of the pixel grid resized
  /// bilinearly: their product is the coverage, and where it is 0 the result is 0. Both empty but for the
  /// last patches.
  std::vector<float> row_coverage, column_coverage;

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("sum", op.sum);
    visit("x", op.x);
    visit("tops", op.tops);
    visit("lefts", op.lefts);
    visit("height", op.height);
    visit("width", op.width);
    visit("rowCoverage", op.row_coverage);
    visit("columnCoverage", op.column_coverage);
  }

  void infer() {
    check_rank(kName, "sum", sum, 4);
    check_rank(kName, "x", x, 4);
    check_float32(kName, "sum", sum);
    check(sum.dim(0) == 1 && sum.dim(3) == x.dim(3), kName, ": patches ", x.shape, " do not fit the map ",
          sum.shape);
    check(static_cast<int64_t>(tops.size()) == x.dim(0) && lefts.size() == tops.size(), kName, ": x has ",
          x.dim(0), " patches, and there are ", tops.size(), " tops and ", lefts.size(), " lefts");
    check(height > 0 && width > 0, kName, ": the size ", height, " x ", width, " must be positive");
    for (size_t i = 0; i < tops.size(); ++i) {
      check(tops[i] >= 0 && lefts[i] >= 0 && tops[i] <= sum.dim(1) - height && lefts[i] <= sum.dim(2) - width,
            kName, ": the patch at row ", tops[i], ", column ", lefts[i], " of ", height, " x ", width,
            " leaves the map ", sum.shape);
    }
    const bool divides = !row_coverage.empty() || !column_coverage.empty();
    check(!divides || (static_cast<int64_t>(row_coverage.size()) == sum.dim(1) &&
                       static_cast<int64_t>(column_coverage.size()) == sum.dim(2)),
          kName, ": the coverage has ", row_coverage.size(), " rows and ", column_coverage.size(),
          " columns, the map is ", sum.shape);
  }

  double multiply_adds() const {
    return 4.0 * static_cast<double>(x.dim(0) * x.dim(3)) * static_cast<double>(height) * width;
  }
};

}  // namespace glnet
