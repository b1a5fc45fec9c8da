// A map as seen from another grid: a crop for each patch, then bilinear resizes. Shared by crop_resize,
// aggregate_conv and their backward ops.
#pragma once

#include "core/fields.h"
#include "ops/halves.h"

namespace glnet {

/// What becomes of a map [N, H, W, C], whose dimensions are `Source::map_dim(0)` to `map_dim(3)`.
template <class Source>
struct GridView {
  std::vector<int> tops;   ///< first row of each patch's crop; empty: no crop
  std::vector<int> lefts;  ///< first column of each patch's crop
  int crop_height = 0;     ///< rows of every crop
  int crop_width = 0;      ///< columns of every crop
  std::vector<int> sizes;  ///< resizes after the crop, one after the other: h1, w1, h2, w2, ...; may be empty

  bool cropped() const { return !tops.empty(); }
  int64_t channels() const { return map_dim(3); }
  /// Number of patches that the source says there are; 1 fits any number.
  int64_t batch() const { return cropped() ? static_cast<int64_t>(tops.size()) : map_dim(0); }
  /// Height and width before the resizes.
  int64_t base_height() const { return cropped() ? crop_height : map_dim(1); }
  int64_t base_width() const { return cropped() ? crop_width : map_dim(2); }
  /// Height and width on the target grid.
  int64_t height() const { return sizes.empty() ? base_height() : sizes[sizes.size() - 2]; }
  int64_t width() const { return sizes.empty() ? base_width() : sizes.back(); }
  /// Of the map.
  Shape map_shape() const { return {map_dim(0), map_dim(1), map_dim(2), map_dim(3)}; }

 protected:
  template <class Self, class Visit>
  static void view_fields(Self& s, Visit&& visit) {
    visit("tops", s.tops);
    visit("lefts", s.lefts);
    visit("cropHeight", s.crop_height);
    visit("cropWidth", s.crop_width);
    visit("sizes", s.sizes);
  }

  void validate_view(const char* op) const {
    check(tops.size() == lefts.size(), op, ": a source has ", tops.size(), " tops and ", lefts.size(),
          " lefts");
    check(sizes.size() % 2 == 0, op, ": sizes are pairs of height and width, and there are ", sizes.size());
    for (const int s : sizes) check(s > 0, op, ": a size of ", s, " must be positive");
    if (!cropped()) return;
    check(map_dim(0) == 1, op, ": crops are taken from one map, and the source has ", map_dim(0));
    check(crop_height > 0 && crop_width > 0, op, ": the crop of ", crop_height, " x ", crop_width,
          " is empty");
    for (size_t i = 0; i < tops.size(); ++i) {
      check(tops[i] >= 0 && lefts[i] >= 0 && tops[i] <= map_dim(1) - crop_height &&
                lefts[i] <= map_dim(2) - crop_width,
            op, ": the crop at row ", tops[i], ", column ", lefts[i], " of ", crop_height, " x ", crop_width,
            " leaves the map ", map_shape());
    }
  }

 private:
  int64_t map_dim(size_t i) const { return static_cast<const Source&>(*this).map_dim(i); }
};

/// The geometry of a source without its data: of a map whose gradient is asked for.
struct MapGeometry : GridView<MapGeometry> {
  // Of the map [batch, height, width, channels]; batch is 1 if it is cropped or the same for every patch.
  int map_batch = 0;
  int map_height = 0;
  int map_width = 0;
  int map_channels = 0;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& visit) {
    visit("batch", s.map_batch);
    visit("height", s.map_height);
    visit("width", s.map_width);
    visit("channels", s.map_channels);
    view_fields(s, visit);
  }

  int64_t map_dim(size_t i) const {
    const int dims[] = {map_batch, map_height, map_width, map_channels};
    return dims[i];
  }

  void validate(const char* op) const {
    for (size_t i = 0; i < 4; ++i) {
      check(map_dim(i) > 0, op, ": the source's map must have a positive size, and is ", map_shape());
    }
    validate_view(op);
  }
};

struct GridSource : GridView<GridSource> {
  In x;  ///< [N, H, W, C], or [1, H, W, C] if cropped or the same for every patch
  // The part of the target grid that is meant; it may reach beyond it, into zeros. No height and no width:
  // all.
  int window_top = 0;
  int window_left = 0;
  int window_height = 0;
  int window_width = 0;
  // What lies between the two halves of the window, and is left out of it.
  int window_skip_rows = 0;
  int window_skip_columns = 0;

  template <class Self, class Visit>
  static void fields(Self& s, Visit&& visit) {
    visit("x", s.x);
    view_fields(s, visit);
    visit("windowTop", s.window_top);
    visit("windowLeft", s.window_left);
    visit("windowHeight", s.window_height);
    visit("windowWidth", s.window_width);
    visit("windowSkipRows", s.window_skip_rows);
    visit("windowSkipColumns", s.window_skip_columns);
  }

  int64_t map_dim(size_t i) const { return x.dim(i); }

  bool windowed() const { return window_height > 0; }
  /// Of the window, if there is one.
  int64_t height() const { return windowed() ? window_height : GridView::height(); }
  int64_t width() const { return windowed() ? window_width : GridView::width(); }
  /// Pixels of the own grid that are read, for counting: of a window, those below it and a margin of one.
  int64_t own_pixels() const {
    const auto own = [&](int64_t base, int64_t whole, int64_t window) {
      return windowed() ? std::min(base, (base * window + whole - 1) / whole + 1) : base;
    };
    return own(base_height(), GridView::height(), window_height) *
           own(base_width(), GridView::width(), window_width);
  }

  void set_window(int64_t top, int64_t left, int64_t height, int64_t width, int64_t skip_rows = 0,
                  int64_t skip_columns = 0) {
    window_top = static_cast<int>(top), window_left = static_cast<int>(left);
    window_height = static_cast<int>(height), window_width = static_cast<int>(width);
    window_skip_rows = static_cast<int>(skip_rows), window_skip_columns = static_cast<int>(skip_columns);
  }

  void validate(const char* op) const {
    check_rank(op, "source", x, 4);
    validate_view(op);
    constexpr int kMost = 1 << 30;  // so that kernels can count with what lies outside
    const auto fits = [&](int first, int count, int skip) {
      return count > 0 && has_halves(count, skip) && count <= kMost - skip && first >= -kMost &&
             first <= kMost;
    };
    const bool none = !window_top && !window_left && !window_height && !window_width && !window_skip_rows &&
                      !window_skip_columns;
    check(none || (fits(window_top, window_height, window_skip_rows) &&
                   fits(window_left, window_width, window_skip_columns)),
          op, ": there is no window of ", window_height, " x ", window_width, " at row ", window_top,
          ", column ", window_left, " that skips ", window_skip_rows, " rows and ", window_skip_columns,
          " columns");
  }

  MapGeometry geometry() const {
    MapGeometry g;
    g.tops = tops;
    g.lefts = lefts;
    g.crop_height = crop_height;
    g.crop_width = crop_width;
    g.sizes = sizes;
    g.map_batch = static_cast<int>(x.dim(0));
    g.map_height = static_cast<int>(x.dim(1));
    g.map_width = static_cast<int>(x.dim(2));
    g.map_channels = static_cast<int>(x.dim(3));
    return g;
  }
};

/// The shape of sources that lie side by side along the channels. Checks them, and that they are of one
/// height and width, and of one batch, which 1 fits.
inline Shape joined_shape(const char* op, const std::vector<GridSource>& sources) {
  check(!sources.empty(), op, ": there is no source");
  const GridSource& first = sources.front();
  int64_t batch = 1, channels = 0;
  for (const GridSource& s : sources) {
    s.validate(op);
    check(s.height() == first.height() && s.width() == first.width(), op, ": a source is ", s.height(), " x ",
          s.width(), " on the target grid, the first ", first.height(), " x ", first.width());
    check(s.batch() == batch || s.batch() == 1 || batch == 1, op, ": sources of ", batch, " and ", s.batch(),
          " patches do not go together");
    batch = std::max(batch, s.batch());
    channels += s.channels();
  }
  return {batch, first.height(), first.width(), channels};
}

}  // namespace glnet
