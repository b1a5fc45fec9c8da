// aggregate_conv: the aggregation convolution, each source in the cheapest of three ways.
//
// Directly: an implicit matrix product on the target grid. Sources that are cropped or resized are made
// first, by crop_resize, into the workspace.
//
// By taps: one matrix product on the source's own grid gives each pixel's products with all k x k matrices of
// the kernel, [pixels, k k, K]; a gather, the same for all such sources, adds them up for each pixel of y. A
// block of the gather takes one row of y and up to 32 channels, which are neighbouring threads. First it goes
// down the columns of each source: for each of its columns and each column of the kernel the sum over the
// kernel's rows and the taps of the resize, into shared memory. Then along the row, over the kernel's columns
// and the taps of the resize. A tap that steps outside the target grid has no term, so that the zero padding
// is exact. It also adds bias, addend and the sums of the direct sources, and writes y once.
//
// By columns, where outputs are so few that a tile of the product would be mostly idle: each column of the
// kernel is an output of its own, [pixels, k, K], and the gather adds them up along the row.
//
// On tensor cores the direct sources are one product, whose sums stay in registers; so are those by columns,
// and those by taps that share their grids. Elsewhere each is a product of its own, and the direct ones are
// added up in y itself, or, where y is bfloat16, in the workspace; there is no way by columns. All sums are
// float32. The outputs are done in slices, and the patches in groups, such that products and sums, and the
// maps that are made, fit scratch_bytes() each.
//
// Bytes: sources, weights and y once, and the products out and in again, which are within reach of the L2
// cache of the cards with 50 MB and more. Floor, for the final stage of a patch of 508 px (four levels of 128
// channels and what they share, to 512 channels at 127 x 127, 3 x 3), 13.2 G multiply-adds, 63 MB in float32:
// 394 us of arithmetic on an H100 (67 TFLOP/s; 19 us of bytes at 3.35 TB/s), 318 us on an RTX 4090 (83
// TFLOP/s; 63 us at 1.01 TB/s); in bfloat16 on tensor cores 27 us (990 TFLOP/s) and 160 us (165 TFLOP/s).
//
// Considered: interpolating while a direct source is loaded, which needs no workspace, but repeats the
// interpolation for each of the k x k taps and each tile of outputs; a gather of single pixels, without the
// sums down the columns: 36 products for each element of y instead of 6 and a share of the sums.
// Left: the gather inside the product's epilogue, which would save the products' way through memory.
#include "cuda/resample.cuh"
#include "cuda/tensor_gemm.cuh"

namespace glnet::cuda {
namespace {

constexpr size_t kMostTapSets = 16;
constexpr int64_t kBandBytes = 48 << 10;  // of shared memory, for the sums down the columns
constexpr int64_t kLeastLanes = 8;        // channels of a block, with which the band must fit

/// The products by taps of sources that share their grids, and how they are resized.
struct TapSource {
  const float* products;  ///< [patches, height, width, k k, channels]
  int64_t patch_stride;   ///< 0 if they are the same for every patch
  const Tap* rows;
  const Tap* columns;
  int row_slots, column_slots;
  int width;
  int band;  ///< where its columns lie in the band
};

/// What `gather_taps_kernel` reads.
struct TapSources {
  TapSource sources[kMostTapSets];
  int count;
  const float* columns;  ///< products by columns, [lines, width, kernel, channels]; nullptr: none
  int64_t lines;         ///< rows of all patches together
  int height, width;
  int kernel;
  int channels;
  int lanes;  ///< of `channels` at a time
};

/// The band is [columns of all sources, k, lanes].
template <class T>
__global__ void __launch_bounds__(kThreads, 4) gather_taps_kernel(TapSources g, Finish<T> finish) {
  DYNAMIC_SHARED(float, band);
  const auto thread = static_cast<int>(threadIdx.x);
  const int lane = thread % g.lanes, first = thread / g.lanes, step = kThreads / g.lanes;
  const int chunks = (g.channels + g.lanes - 1) / g.lanes, radius = g.kernel / 2;
  for (int64_t item = blockIdx.x; item < g.lines * chunks; item += gridDim.x) {
    const int64_t line = item / chunks;
    const int n = static_cast<int>(item % chunks) * g.lanes + lane;
    const auto row = static_cast<int>(line % g.height);
    const int first_dy = std::max(0, radius - row), last_dy = std::min(g.kernel, g.height + radius - row);
    if (n < g.channels) {
      for (int s = 0; s < g.count; ++s) {
        const TapSource& source = g.sources[s];
        const float* products = source.products + line / g.height * source.patch_stride + n;
        const int64_t row_stride = static_cast<int64_t>(source.width) * g.kernel * g.kernel * g.channels;
        for (int i = first; i < source.width * g.kernel; i += step) {
          const int column = i / g.kernel, dx = i % g.kernel;
          float sum = 0;
          for (int dy = first_dy; dy < last_dy; ++dy) {
            const Tap* taps = source.rows + static_cast<int64_t>(row + dy - radius) * source.row_slots;
            const float* from =
                products + ((static_cast<int64_t>(column) * g.kernel + dy) * g.kernel + dx) * g.channels;
            for (int t = 0; t < source.row_slots && taps[t].weight != 0; ++t) {
              sum += taps[t].weight * from[taps[t].index * row_stride];
            }
          }
          band[(source.band * g.kernel + i) * g.lanes + lane] = sum;
        }
      }
    }
    __syncthreads();
    if (n < g.channels) {
      for (int column = first; column < g.width; column += step) {
        float sum = 0;
        for (int dx = 0; g.columns && dx < g.kernel; ++dx) {
          const int at = column + dx - radius;
          if (at < 0 || at >= g.width) continue;
          sum += g.columns[((line * g.width + at) * g.kernel + dx) * g.channels + n];
        }
        for (int s = 0; s < g.count; ++s) {
          const TapSource& source = g.sources[s];
          for (int dx = 0; dx < g.kernel; ++dx) {
            const int at = column + dx - radius;
            if (at < 0 || at >= g.width) continue;
            const Tap* taps = source.columns + static_cast<int64_t>(at) * source.column_slots;
            for (int t = 0; t < source.column_slots && taps[t].weight != 0; ++t) {
              const float part = band[((source.band + taps[t].index) * g.kernel + dx) * g.lanes + lane];
              sum += taps[t].weight * part;
            }
          }
        }
        finish.store(line * g.width + column, n, Quad<float>{{sum}}, 1);
      }
    }
    // The next item writes the band again.
    __syncthreads();
  }
}

/// What becomes of one source.
struct Part {
  const GridSource* source;
  int64_t first;    ///< its first input channel in the weight
  bool shared;      ///< the same for every patch
  bool made;        ///< cropped, or cropped and resized, into the workspace first; else read in place
  int64_t map = 0;  ///< where the workspace has what is made

  int64_t height() const { return source->base_height(); }
  int64_t width() const { return source->base_width(); }
  int64_t pixels() const { return height() * width(); }
};

/// Sources by taps that are one product, since they lie on the same grids.
struct TapSet {
  std::vector<Part> parts;
  Chain rows, columns;
  int64_t tables = 0, products = 0;  ///< where its taps and its products lie in the workspace

  const Part& any() const { return parts.front(); }
  bool takes(const Part& part) const {
    return parts.size() < TensorProduct::kMostSources && part.shared == any().shared &&
           part.height() == any().height() && part.width() == any().width() &&
           part.source->sizes == any().source->sizes && !part.source->windowed() && !any().source->windowed();
  }
};

Chain chain_along(const GridSource& s, size_t axis) {
  return windowed_chain_of(AggregateConv::kName, s, axis);
}

/// Whether to apply the taps of the weight to the source on its own grid.
bool taps_pay(const GridSource& s, const View& weight) {
  // A term of the gather costs about as much as eight multiply-adds.
  const auto columns = [](int64_t n) { return static_cast<double>(column_cost(n)); };
  const int64_t outputs = weight.dim(0), kernel = weight.dim(2), area = kernel * kernel;
  const auto own = static_cast<double>(s.base_height() * s.base_width());
  const auto target = static_cast<double>(s.height() * s.width());
  const auto channels = static_cast<double>(s.channels());
  const double terms = target * static_cast<double>((outputs * kernel) << s.sizes.size() / 2);
  return own * columns(area * outputs) * channels + 8 * terms <
         target * columns(outputs) * static_cast<double>(area) * channels;
}

/// Whether columns of the kernel as outputs leave a tile less idle.
bool columns_pay(const View& weight) {
  const auto cost = [](int64_t n) { return n <= kNarrow ? kNarrow : round_up(n, kSquare); };
  const int64_t outputs = weight.dim(0), kernel = weight.dim(2);
  return 2 * cost(outputs * kernel) <= cost(outputs) * kernel;
}

/// How an op is done; the same in `prepare` and in the kernel.
struct Plan {
  explicit Plan(const AggregateConv& op);

  const AggregateConv& op;
  int64_t outputs, kernel, batch, height, width;
  bool on_tensor_cores;
  std::vector<Part> direct, by_columns;
  std::vector<TapSet> by_taps;
  bool accumulates;          ///< sums of direct sources lie in the workspace, not in y
  int64_t band_columns = 0;  ///< of all tap sets together
  int64_t slice, group;
  // The workspace in bytes, and where things lie in it. Maps, tables and other products: see Part and TapSet.
  int64_t making = 0, sums = 0, columns = 0, parts = 0, workspace_bytes = 0;

  int64_t area() const { return kernel * kernel; }
  bool gathers() const { return !by_taps.empty() || !by_columns.empty(); }

 private:
  void sort_sources();
  /// Floats of products and sums for each output channel: of each patch, and common to all.
  struct Floats {
    int64_t own = 0, common = 0;
  };
  Floats floats() const;
  /// Calls `body(part, its pixels)` for each map that is made.
  template <class Body>
  void for_each_made(Body&& body);
  int64_t made_bytes(int64_t patches);
  void choose_slices();
  void lay_out();
};

Plan::Plan(const AggregateConv& op)
    : op(op),
      outputs(op.weight.dim(0)),
      kernel(op.weight.dim(2)),
      batch(op.y.dim(0)),
      height(op.y.dim(1)),
      width(op.y.dim(2)),
      on_tensor_cores(cuda::on_tensor_cores(op.y.dtype)) {
  sort_sources();
  // Sums are not rounded to bfloat16, and where y has the addend's memory, it must not be written before the
  // end.
  const bool in_parts = gathers() || (!on_tensor_cores && direct.size() > 1);
  accumulates = (op.y.dtype != DType::float32 || op.overwrite) && in_parts && !direct.empty();
  choose_slices();
  lay_out();
}

void Plan::sort_sources() {
  int64_t first = op.first, products = 0;
  for (const GridSource& s : op.sources) {
    Part part{.source = &s, .first = first, .shared = s.batch() == 1 && batch > 1, .made = s.cropped()};
    first += s.channels();
    if (on_tensor_cores && s.sizes.empty() && !s.windowed() && columns_pay(op.weight) &&
        by_columns.size() < TensorProduct::kMostSources) {
      by_columns.push_back(part);
      continue;
    }
    const auto set = std::find_if(by_taps.begin(), by_taps.end(),
                                  [&](const TapSet& set) { return on_tensor_cores && set.takes(part); });
    if (set != by_taps.end()) {
      set->parts.push_back(part);
      continue;
    }
    // In slices of 16 outputs the products must fit, and the band in shared memory.
    const int64_t least = part.pixels() * area() * std::min<int64_t>(outputs, 16) * 4;
    const int64_t columns = band_columns + part.width();
    if (taps_pay(s, op.weight) && by_taps.size() < kMostTapSets && products + least <= scratch_bytes() &&
        columns * kernel * kLeastLanes * 4 <= kBandBytes) {
      products += least;
      band_columns = columns;
      by_taps.push_back({{part}, chain_along(s, 0), chain_along(s, 1)});
    } else {
      part.made = part.made || s.windowed() || !s.sizes.empty();
      direct.push_back(part);
    }
  }
}

Plan::Floats Plan::floats() const {
  Floats f;
  if (accumulates) f.own = height * width;
  if (!by_columns.empty()) f.own += height * width * kernel;
  for (const TapSet& set : by_taps) (set.any().shared ? f.common : f.own) += set.any().pixels() * area();
  return f;
}

template <class Body>
void Plan::for_each_made(Body&& body) {
  const auto visit = [&](std::vector<Part>& parts, int64_t pixels) {
    for (Part& part : parts) {
      if (part.made) body(part, pixels);
    }
  };
  visit(direct, height * width);
  visit(by_columns, height * width);
  for (TapSet& set : by_taps) visit(set.parts, set.any().pixels());
}

int64_t Plan::made_bytes(int64_t patches) {
  int64_t sum = 0;
  for_each_made([&](const Part& part, int64_t pixels) {
    sum += (part.shared ? 1 : patches) * pixels * part.source->channels() *
           static_cast<int64_t>(size_of(op.y.dtype));
  });
  return sum;
}

void Plan::choose_slices() {
  const auto [own, common] = floats();
  slice = outputs, group = batch;
  while (group > 1 &&
         (4 * outputs * (group * own + common) > scratch_bytes() || made_bytes(group) > scratch_bytes())) {
    --group;
  }
  if (4 * outputs * (own + common) <= scratch_bytes()) return;
  // As many outputs as fit, in slices of about the same size. Multiples of 4, so that quads are aligned.
  const int64_t fit = scratch_bytes() / (4 * (own + common)), unit = fit >= 16 ? 16 : 4;
  const int64_t most = std::max(fit / unit * unit, unit), slices = (outputs + most - 1) / most;
  slice = round_up((outputs + slices - 1) / slices, unit);
}

void Plan::lay_out() {
  const auto reserve = [&](int64_t bytes) {
    const int64_t at = workspace_bytes;
    workspace_bytes += round_up(bytes, 64);
    return at;
  };
  size_t most_parts = 0;
  const auto cut = [&](int64_t rows, int64_t columns, const std::vector<Part>& sources, int64_t taps) {
    int64_t depth = 0;
    for (const Part& part : sources) depth += part.source->channels() * taps;
    if (on_tensor_cores && depth) most_parts = std::max(most_parts, tensor_cut(rows, columns, depth).bytes);
  };
  for (TapSet& set : by_taps) {
    const int64_t pixels = (set.any().shared ? 1 : group) * set.any().pixels();
    set.tables = reserve(static_cast<int64_t>(set.rows.bytes() + set.columns.bytes()));
    set.products = reserve(4 * pixels * area() * slice);
    cut(pixels, area() * slice, set.parts, 1);
  }
  if (accumulates) sums = reserve(4 * group * height * width * slice);
  if (!by_columns.empty()) columns = reserve(4 * group * height * width * kernel * slice);
  cut(group * height * width, slice, direct, area());
  cut(group * height * width, kernel * slice, by_columns, kernel);
  parts = reserve(static_cast<int64_t>(most_parts));
  int64_t most = 0;
  for_each_made([&](Part& part, int64_t pixels) {
    part.map = reserve((part.shared ? 1 : group) * pixels * part.source->channels() *
                       static_cast<int64_t>(size_of(op.y.dtype)));
    // More than it is without its resizes.
    most = std::max(most, static_cast<int64_t>(chain_along(*part.source, 0).bytes() +
                                               chain_along(*part.source, 1).bytes()));
  });
  making = reserve(std::max(most, (height + width) * static_cast<int64_t>(sizeof(Tap))));
}

template <class T>
class Run {
 public:
  Run(const AggregateConv& op, const Context& context)
      : op_(op), context_(context), plan_(op), workspace_(static_cast<std::byte*>(context.workspace)) {}

  void operator()() {
    for (const TapSet& set : plan_.by_taps) {
      fill_taps(context_, set.rows, set.columns, 1, row_taps(set));
    }
    for (patch_ = 0; patch_ < plan_.batch; patch_ += plan_.group) {
      count_ = std::min(plan_.group, plan_.batch - patch_);
      for (output_ = 0; output_ < plan_.outputs; output_ += plan_.slice) {
        channels_ = static_cast<int>(std::min(plan_.slice, plan_.outputs - output_));
        if (plan_.on_tensor_cores) {
          if constexpr (std::is_same_v<T, bfloat16>) multiply_on_tensor_cores();
        } else {
          multiply();
        }
        if (plan_.gathers()) gather();
      }
    }
  }

 private:
  Tap* row_taps(const TapSet& set) const { return reinterpret_cast<Tap*>(workspace_ + set.tables); }
  Tap* column_taps(const TapSet& set) const { return row_taps(set) + set.rows.bytes() / sizeof(Tap); }
  float* floats_at(int64_t place) const { return reinterpret_cast<float*>(workspace_ + place); }

  /// The sums of direct sources, of the group's patches and the slice's channels.
  float* sums() const {
    if (plan_.accumulates) return floats_at(plan_.sums);
    return op_.y.as<float>() + patch_ * plan_.height * plan_.width * plan_.outputs + output_;
  }

  /// What ends the sum, or only adds to it.
  Finish<T> finish(bool add, bool last) const {
    const int64_t at = patch_ * plan_.height * plan_.width * plan_.outputs + output_;
    Finish<T> f{.y = last ? op_.y.as<T>() + at : nullptr,
                .stride = static_cast<int>(plan_.outputs),
                .sums_stride = static_cast<int>(plan_.accumulates ? plan_.slice : plan_.outputs)};
    if (!last) f.later = sums();
    if (add) f.so_far = sums();
    if (op_.bias) f.bias = op_.bias.as<const float>() + output_;
    if (op_.addend) f.addend = op_.addend.as<const T>() + at;
    f.relu = op_.relu;
    return f;
  }

  /// The maps of the group's patches, read in place or made now.
  Maps<T> maps(const Part& part, bool resized) const {
    const int64_t patch = part.shared ? 0 : patch_, count = part.shared ? 1 : count_;
    const GridSource& s = *part.source;
    const int height = static_cast<int>(resized ? plan_.height : part.height());
    const int width = static_cast<int>(resized ? plan_.width : part.width());
    Maps<T> m{.x = s.x.as<const T>(),
              .height = height,
              .width = width,
              .channels = static_cast<int>(s.channels()),
              .map_stride = part.shared ? 0 : height * width,
              .out_height = height,
              .out_width = width,
              .patches = static_cast<int>(count)};
    if (!part.made) {
      m.x += patch * s.x.dim(1) * s.x.dim(2) * s.channels();
      return m;
    }
    CropResize op;
    op.source = s;
    if (s.cropped()) {
      op.source.tops.assign(s.tops.begin() + patch, s.tops.begin() + patch + count);
      op.source.lefts.assign(s.lefts.begin() + patch, s.lefts.begin() + patch + count);
    } else {
      op.source.x.data = s.x.as<T>() + patch * s.x.dim(1) * s.x.dim(2) * s.channels();
      op.source.x.shape[0] = count;
    }
    if (!resized) op.source.sizes.clear(), op.source.set_window(0, 0, 0, 0);
    op.infer();
    op.y.data = workspace_ + part.map;
    Context context = context_;
    context.workspace = workspace_ + plan_.making;
    crop_resize(op, context);
    m.x = op.y.as<const T>();
    return m;
  }

  Weights<T> weights(const Part& part) const {
    const auto stride = op_.weight.dim(1) * plan_.area();
    return {.w = op_.weight.as<const T>() + output_ * stride + part.first * plan_.area(),
            .columns = channels_,
            .column_stride = static_cast<int>(stride),
            .channel_stride = static_cast<int>(plan_.area()),
            .row_stride = static_cast<int>(plan_.kernel)};
  }

  void multiply() const {
    for (size_t i = 0; i < plan_.direct.size(); ++i) {
      const Part& part = plan_.direct[i];
      Maps<T> m = maps(part, true);
      m.patches = static_cast<int>(count_);
      m.kernel_height = m.kernel_width = static_cast<int>(plan_.kernel);
      m.top = m.left = -static_cast<int>(plan_.kernel / 2);
      const bool last = i + 1 == plan_.direct.size() && plan_.by_taps.empty();
      gemm(context_, Convolution<T>{m, weights(part)}, finish(i > 0, last));
    }
    for (const TapSet& set : plan_.by_taps) {
      Weights<T> w = weights(set.any());
      w.split = static_cast<int>(plan_.area());
      w.columns *= w.split;
      gemm(context_, Convolution<T>{maps(set.any(), false), w},
           Products{floats_at(set.products), w.split, channels_});
    }
  }

  /// Sources of a product on tensor cores, and its outputs; taps are still to be set.
  TensorProduct product_of(const std::vector<Part>& parts, bool resized) const {
    const auto channels = static_cast<int>(op_.weight.dim(1));
    const auto stride = static_cast<int>(plan_.area()) * channels;
    TensorProduct product{.weights = tensor_weight(op_.weight, context_) + output_ * stride,
                          .columns = channels_,
                          .column_stride = stride,
                          .octets = channels % 8 == 0};
    for (const Part& part : parts) {
      const Maps<T> m = maps(part, resized);
      product.height = product.out_height = m.height;
      product.width = product.out_width = m.width;
      product.patches = m.patches;
      product.add(m.x, m.channels, m.map_stride, part.first);
    }
    return product;
  }

  void multiply_on_tensor_cores() const {
    const auto kernel = static_cast<int>(plan_.kernel), channels = static_cast<int>(op_.weight.dim(1));
    void* const parts = workspace_ + plan_.parts;
    if (!plan_.direct.empty()) {
      TensorProduct product = product_of(plan_.direct, true);
      product.patches = static_cast<int>(count_);
      product.kernel_height = product.kernel_width = kernel;
      product.top = product.left = -(kernel / 2);
      product.row_stride = kernel * channels;
      product.tap_stride = channels;
      tensor_gemm(context_, product, finish(false, !plan_.gathers()), parts);
    }
    if (!plan_.by_columns.empty()) {
      TensorProduct product = product_of(plan_.by_columns, true);
      product.patches = static_cast<int>(count_);
      product.kernel_height = kernel;
      product.top = -(kernel / 2);
      product.row_stride = kernel * channels;
      product.split = kernel;
      product.split_stride = channels;
      product.columns *= kernel;
      tensor_gemm(context_, product, Rows{floats_at(plan_.columns), product.columns}, parts);
    }
    for (const TapSet& set : plan_.by_taps) {
      TensorProduct product = product_of(set.parts, false);
      product.split = kernel * kernel;
      product.split_stride = channels;
      product.columns *= product.split;
      tensor_gemm(context_, product, Rows{floats_at(set.products), product.columns}, parts);
    }
  }

  void gather() const {
    TapSources g{.sources = {},
                 .count = static_cast<int>(plan_.by_taps.size()),
                 .columns = plan_.by_columns.empty() ? nullptr : floats_at(plan_.columns),
                 .lines = count_ * plan_.height,
                 .height = static_cast<int>(plan_.height),
                 .width = static_cast<int>(plan_.width),
                 .kernel = static_cast<int>(plan_.kernel),
                 .channels = channels_,
                 .lanes = 32};
    int band = 0;
    for (size_t i = 0; i < plan_.by_taps.size(); ++i) {
      const TapSet& set = plan_.by_taps[i];
      const Part& part = set.any();
      g.sources[i] = {floats_at(set.products),
                      part.shared ? 0 : part.pixels() * plan_.area() * channels_,
                      row_taps(set),
                      column_taps(set),
                      set.rows.slots(),
                      set.columns.slots(),
                      static_cast<int>(part.width()),
                      band};
      band += static_cast<int>(part.width());
    }
    const int64_t lane_bytes = plan_.band_columns * plan_.kernel * 4;
    while (g.lanes > 1 && (g.lanes / 2 >= channels_ || g.lanes * lane_bytes > kBandBytes)) g.lanes /= 2;
    const int64_t items = g.lines * ((channels_ + g.lanes - 1) / g.lanes);
    launch(gather_taps_kernel<T>, static_cast<unsigned>(std::min(items, kMostBlocks)), kThreads,
           static_cast<size_t>(g.lanes * lane_bytes), stream_of(context_), g,
           finish(!plan_.direct.empty(), true));
  }

  const AggregateConv& op_;
  const Context& context_;
  Plan plan_;
  std::byte* workspace_;
  // What is being done: patches of a group, channels of a slice.
  int64_t patch_ = 0, count_ = 0, output_ = 0;
  int channels_ = 0;
};

}  // namespace

void prepare_aggregate_conv(const AggregateConv& op, Prepare& prepare) {
  int64_t pixels = op.y.size() / op.y.dim(3);
  for (const GridSource& s : op.sources) pixels = std::max(pixels, s.x.size() / s.channels());
  check_gemm(op.kName, op.y.dtype, pixels, op.weight.size());
  if (on_tensor_cores(op.y.dtype)) pack_tensor_weight(prepare, op.weight);
  prepare.workspace(static_cast<size_t>(Plan(op).workspace_bytes));
}

void aggregate_conv(const AggregateConv& op, const Context& context) {
  with_type(op.kName, op.y.dtype, [&](auto t) { Run<decltype(t)>(op, context)(); });
}

}  // namespace glnet::cuda
