// stitch: logits of patches to labels and confidence at full resolution, a band of rows at a time. Each
// patch's logits are upsampled by nearest neighbour to the patch's extent and summed where patches overlap.
// The same op serves a map of the whole image (one patch), and several turns of the image (test-time
// augmentation).
//
// Pixel d of a patch reads the logits at floor(d * h / height), and so for columns. Sums are float32, taken
// in the order of sources and patches.
#pragma once

#include "core/fields.h"
#include "ops/turn.h"

namespace glnet {

struct StitchSource {
  In logits;               ///< [N, h, w, K], K at most 256; one dtype and K for all sources
  std::vector<int> tops;   ///< first row of each patch in the image as turned; may lie outside
  std::vector<int> lefts;  ///< first column of each patch
  int height = 0;          ///< extent of every patch in pixels; what leaves the image is dropped
  int width = 0;
  int turn = 0;  ///< the flip and quarter turn under which these patches were predicted, see turn.h

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& visit) {
    visit("logits", s.logits);
    visit("tops", s.tops);
    visit("lefts", s.lefts);
    visit("height", s.height);
    visit("width", s.width);
    visit("turn", s.turn);
  }
};

struct Stitch {
  static constexpr const char* kName = "stitch";

  std::vector<StitchSource> sources;
  int image_height = 0;
  int image_width = 0;
  int row = 0;   ///< first row of the band
  int rows = 0;  ///< rows of the band
  Out labels;    ///< [rows, image_width], uint8: argmax of the sums: the first of equal ones, NaN counting as
                 ///< largest
  Out confidence;  ///< [rows, image_width], uint8: 255 times the softmax probability of the label under the
                   ///< mean of the patches' logits, rounded to nearest; 0 where that is NaN (a sum is NaN or
                   ///< +inf, or all are -inf). 0, with label 0, where no patch lies.

  template <class Self, class Visit>
  static void fields(Self& op, Visit&& visit) {
    visit("sources", op.sources);
    visit("imageHeight", op.image_height);
    visit("imageWidth", op.image_width);
    visit("row", op.row);
    visit("rows", op.rows);
    visit("labels", op.labels);
    visit("confidence", op.confidence);
  }

  void infer() {
    check(!sources.empty(), kName, ": there is no source");
    check(image_height > 0 && image_width > 0, kName, ": the image of ", image_height, " x ", image_width,
          " is empty");
    check(row >= 0 && rows > 0 && row <= image_height - rows, kName, ": the band of ", rows,
          " rows from row ", row, " leaves the image of ", image_height, " rows");
    for (const StitchSource& s : sources) {
      check_rank(kName, "logits", s.logits, 4);
      check(s.logits.dim(3) == sources[0].logits.dim(3) && s.logits.dim(3) <= 256, kName, ": logits of ",
            s.logits.dim(3), " classes; expected ", sources[0].logits.dim(3), ", at most 256");
      check_dtype(kName, "logits", s.logits, sources[0].logits.dtype);
      check(static_cast<int64_t>(s.tops.size()) == s.logits.dim(0) && s.lefts.size() == s.tops.size(), kName,
            ": logits ", s.logits.shape, " with ", s.tops.size(), " tops and ", s.lefts.size(), " lefts");
      check(s.height > 0 && s.width > 0, kName, ": patches of ", s.height, " x ", s.width, " are empty");
      check_turn(kName, s.turn);
    }
    labels.shape = confidence.shape = {rows, image_width};
    labels.dtype = confidence.dtype = DType::uint8;
  }

  double multiply_adds() const { return 0; }
};

}  // namespace glnet
