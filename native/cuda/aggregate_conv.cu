// aggregate_conv: the aggregation convolution, source by source, each in the cheaper of two ways.
//
// Directly: an implicit matrix product on the target grid, gemm.cuh, which adds to the sums so far. Sources
// that are cropped or resized are made first, by crop_resize, into the workspace.
//
// By taps: one matrix product on the source's own grid gives each pixel's products with all k x k matrices of
// the kernel, [pixels, k k, K]; a gather, the same for all such sources, adds them up for each pixel of y. A
// block of the gather takes one row of y and up to 32 channels, which are neighbouring threads. First it goes
// down the columns of each source: for each of its columns and each column of the kernel the sum over the
// kernel's rows and the taps of the resize, into shared memory. Then along the row, over the kernel's columns
// and the taps of the resize. A tap that steps outside the target grid has no term, so that the zero padding
// is exact. It also adds bias, addend and the sums of the direct sources, and writes y once.
//
// Everything is summed in float32: direct sources in y itself, or, where y is bfloat16, in the workspace. The
// outputs are done in slices, and the patches in groups, such that products and sums, and the maps that are
// made, fit scratch_bytes() each.
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
#include "cuda/gemm.cuh"
#include "cuda/resample.cuh"

namespace glnet::cuda {
namespace {

constexpr size_t kMostTapSources = 16;
constexpr int64_t kBandBytes = 48 << 10;  // of shared memory, for the sums down the columns
constexpr int64_t kLeastLanes = 8;        // channels of a block, with which the band must fit

/// The products of one source, and how they are resized.
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
  TapSource sources[kMostTapSources];
  int count;
  int64_t lines;  ///< rows of all patches together
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
  int64_t first;  ///< its first input channel in the weight
  bool shared;    ///< the same for every patch
  bool made;      ///< cropped, or cropped and resized, into the workspace first; else read in place
  // Of taps.
  Chain rows{}, columns{};
  int64_t tables = 0, products = 0;  ///< where its taps and its products lie in the workspace

  int64_t height() const { return source->base_height(); }
  int64_t width() const { return source->base_width(); }
  int64_t pixels() const { return height() * width(); }
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

/// How an op is done; the same in `prepare` and in the kernel.
struct Plan {
  explicit Plan(const AggregateConv& op);

  const AggregateConv& op;
  int64_t outputs, kernel, batch, height, width;
  std::vector<Part> direct, taps;
  bool accumulates;          ///< sums of direct sources lie in the workspace, not in y
  int64_t band_columns = 0;  ///< of all sources of taps together
  int64_t slice, group;
  // The workspace in bytes, and where things lie in it. Tables and products: see Part.
  int64_t making = 0, map = 0, sums = 0, workspace_bytes = 0;

  int64_t area() const { return kernel * kernel; }

 private:
  /// Floats of products and sums for each output channel: of each patch, and common to all.
  struct Floats {
    int64_t own = 0, common = 0;
  };
  Floats floats() const;
  int64_t made_bytes(int64_t patches) const;
  void choose_slices();
  void lay_out();
};

Plan::Plan(const AggregateConv& op)
    : op(op),
      outputs(op.weight.dim(0)),
      kernel(op.weight.dim(2)),
      batch(op.y.dim(0)),
      height(op.y.dim(1)),
      width(op.y.dim(2)) {
  int64_t first = op.first, products = 0;
  for (const GridSource& s : op.sources) {
    Part part{.source = &s, .first = first, .shared = s.batch() == 1 && batch > 1, .made = s.cropped()};
    first += s.channels();
    // In slices of 16 outputs the products must fit, and the band in shared memory.
    const int64_t least = part.pixels() * area() * std::min<int64_t>(outputs, 16) * 4;
    const int64_t columns = band_columns + part.width();
    if (taps_pay(s, op.weight) && taps.size() < kMostTapSources && products + least <= scratch_bytes() &&
        columns * kernel * kLeastLanes * 4 <= kBandBytes) {
      products += least;
      band_columns = columns;
      part.rows = chain_along(s, 0);
      part.columns = chain_along(s, 1);
      taps.push_back(part);
    } else {
      part.made = part.made || s.windowed() || !s.sizes.empty();
      direct.push_back(part);
    }
  }
  // Where y has the addend's memory, it must not be written before the end.
  accumulates =
      (op.y.dtype != DType::float32 || op.overwrite) && direct.size() + !taps.empty() > 1 && !direct.empty();
  choose_slices();
  lay_out();
}

Plan::Floats Plan::floats() const {
  Floats f;
  if (accumulates) f.own = height * width;
  for (const Part& part : taps) (part.shared ? f.common : f.own) += part.pixels() * area();
  return f;
}

/// Of the largest map that is made.
int64_t Plan::made_bytes(int64_t patches) const {
  int64_t most = 0;
  const auto need = [&](const Part& part, int64_t pixels) {
    if (!part.made) return;
    const int64_t maps = part.shared ? 1 : patches;
    most =
        std::max(most, maps * pixels * part.source->channels() * static_cast<int64_t>(size_of(op.y.dtype)));
  };
  for (const Part& part : direct) need(part, height * width);
  for (const Part& part : taps) need(part, part.pixels());
  return most;
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
  for (Part& part : taps) {
    part.tables = reserve(static_cast<int64_t>(part.rows.bytes() + part.columns.bytes()));
    part.products = reserve(4 * (part.shared ? 1 : group) * part.pixels() * area() * slice);
  }
  if (accumulates) sums = reserve(4 * group * height * width * slice);
  map = reserve(made_bytes(group));
  int64_t most = 0;
  for (const std::vector<Part>* parts : {&direct, &taps}) {
    for (const Part& part : *parts) {
      if (!part.made) continue;
      GridSource s = *part.source;
      if (parts == &taps) s.sizes.clear(), s.set_window(0, 0, 0, 0);
      most = std::max(most, static_cast<int64_t>(chain_along(s, 0).bytes() + chain_along(s, 1).bytes()));
    }
  }
  making = reserve(most);
}

template <class T>
class Run {
 public:
  Run(const AggregateConv& op, const Context& context)
      : op_(op), context_(context), plan_(op), workspace_(static_cast<std::byte*>(context.workspace)) {}

  void operator()() {
    for (const Part& part : plan_.taps) {
      fill_taps(context_, part.rows, row_taps(part));
      fill_taps(context_, part.columns, column_taps(part));
    }
    for (patch_ = 0; patch_ < plan_.batch; patch_ += plan_.group) {
      count_ = std::min(plan_.group, plan_.batch - patch_);
      for (output_ = 0; output_ < plan_.outputs; output_ += plan_.slice) {
        channels_ = static_cast<int>(std::min(plan_.slice, plan_.outputs - output_));
        convolve();
        if (plan_.taps.empty()) continue;
        multiply();
        gather();
      }
    }
  }

 private:
  Tap* row_taps(const Part& part) const { return reinterpret_cast<Tap*>(workspace_ + part.tables); }
  Tap* column_taps(const Part& part) const { return row_taps(part) + part.rows.bytes() / sizeof(Tap); }
  float* products(const Part& part) const { return reinterpret_cast<float*>(workspace_ + part.products); }

  /// The sums of direct sources, of the group's patches and the slice's channels.
  float* sums() const {
    if (plan_.accumulates) return reinterpret_cast<float*>(workspace_ + plan_.sums);
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
    op.y.data = workspace_ + plan_.map;
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

  void convolve() const {
    for (size_t i = 0; i < plan_.direct.size(); ++i) {
      const Part& part = plan_.direct[i];
      Maps<T> m = maps(part, true);
      m.patches = static_cast<int>(count_);
      m.kernel_height = m.kernel_width = static_cast<int>(plan_.kernel);
      m.top = m.left = -static_cast<int>(plan_.kernel / 2);
      const bool last = i + 1 == plan_.direct.size() && plan_.taps.empty();
      gemm(context_, Convolution<T>{m, weights(part)}, finish(i > 0, last));
    }
  }

  void multiply() const {
    for (const Part& part : plan_.taps) {
      Weights<T> w = weights(part);
      w.split = static_cast<int>(plan_.area());
      w.columns *= w.split;
      gemm(context_, Convolution<T>{maps(part, false), w}, Products{products(part), w.split, channels_});
    }
  }

  void gather() const {
    TapSources g{.sources = {},
                 .count = static_cast<int>(plan_.taps.size()),
                 .lines = count_ * plan_.height,
                 .height = static_cast<int>(plan_.height),
                 .width = static_cast<int>(plan_.width),
                 .kernel = static_cast<int>(plan_.kernel),
                 .channels = channels_,
                 .lanes = 32};
    int band = 0;
    for (size_t i = 0; i < plan_.taps.size(); ++i) {
      const Part& part = plan_.taps[i];
      g.sources[i] = {products(part),
                      part.shared ? 0 : part.pixels() * plan_.area() * channels_,
                      row_taps(part),
                      column_taps(part),
                      part.rows.slots(),
                      part.columns.slots(),
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
  prepare.workspace(static_cast<size_t>(Plan(op).workspace_bytes));
}

void aggregate_conv(const AggregateConv& op, const Context& context) {
  with_type(op.kName, op.y.dtype, [&](auto t) { Run<decltype(t)>(op, context)(); });
}

}  // namespace glnet::cuda
