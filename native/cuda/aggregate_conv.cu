// aggregate_conv: the aggregation convolution, each source in the cheapest of three ways.
//
// Directly: an implicit matrix product on the target grid. Sources that are cropped or resized are made
// first, by crop_resize, into the workspace.
//
// By taps: one matrix product on the source's own grid gives each pixel's products with all k x k matrices of
// the kernel, [pixels, k k, K]; a gather, the same for all such sources, adds them up for each pixel of y. A
// block of the gather takes three rows of y and up to 32 channels, a thread four of them where products are
// aligned to that. First it lists, for each source and row of the kernel, the rows that it reads and what
// each counts in its rows of y. Then it goes down the columns of each source: for each of its columns and
// each column of the kernel the sum over this list, into shared memory. The three rows of y read much the
// same, so that this is half of what they read one by one. Then along the rows, over the kernel's columns and
// the taps of the resize. A tap that steps outside the target grid has no term, so that the zero padding is
// exact. It also adds bias, addend and the sums of the direct sources, and writes y once.
//
// By columns, where outputs are so few that a tile of the product would be mostly idle: each column of the
// kernel is an output of its own, [pixels, k, K], and the gather adds them up along the row.
//
// On tensor cores the direct sources are one product, whose sums stay in registers; so are those by columns,
// and those by taps that share their grids. Elsewhere each is a product of its own, and the direct ones are
// added up in y itself, or, where y is bfloat16, in the workspace; there is no way by columns. All sums are
// float32. The outputs are done in slices, and the patches in groups, such that products and sums, and the
// maps that are made, fit scratch_bytes() each; so do the sums of the parts that a long k is cut in.
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

constexpr int64_t kGatherBytes = 40 << 10;  // of shared memory for the band, beside the terms
constexpr int kMostLines = 3;               // of y that a block of the gather does: a Term has 16 bytes
constexpr int kMostTerms = 256;             // that are there together
constexpr int kSectorChannels = 8;          // what memory hands out at once
constexpr int kFlight = 4;                  // loads of a thread that are under way together

/// The products by taps of sources that share their grids, and how they are resized.
struct TapSource {
  const float* products;  ///< [patches, height, width, k k, stride]
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
  int band_columns;      ///< of all sources
  const float* columns;  ///< products by columns, [lines, width, kernel, stride]; nullptr: none
  int patches;
  int height, width;
  int kernel;
  int channels;
  int stride;     ///< channels that a product has room for
  int packs;      ///< of channels that a block does
  int most_rows;  ///< of a source, with one row of the kernel, that a block reads
  int pairs;      ///< of a source and a row of the kernel whose terms are there together
};

/// Blocks' shares of y: `lines` of a patch, `packs` of `lanes` channels.
struct GatherShares {
  int groups, chunks, count;

  __host__ __device__ GatherShares(const TapSources& g, int lanes, int lines)
      : groups((g.height + lines - 1) / lines),
        chunks((g.channels + g.packs * lanes - 1) / (g.packs * lanes)),
        count(g.patches * groups * chunks) {}
};

/// A row of products with one row of the kernel, and its weight in each line.
template <int kLines>
struct alignas(4 + 4 * kLines) Term {
  int at;
  float weights[kLines];
};

template <int kLanes>
__device__ __forceinline__ void add_weighted(Lanes<float, kLanes>& sum, float weight,
                                             const Lanes<float, kLanes>& part) {
  UNROLL
  for (int i = 0; i < kLanes; ++i) sum.v[i] += weight * part.v[i];
}

/// Writes the terms of kLines lines from `first_row` on, each row of the source once. Returns their number.
template <int kLines, class Terms>
__device__ __forceinline__ int list_terms(Terms terms, int begin, const TapSources& g,
                                          const TapSource& source, int first_row, int dy) {
  int count = 0;
  for (int line = 0; line < kLines; ++line) {
    const int row = first_row + line + dy - g.kernel / 2;
    if (first_row + line >= g.height || row < 0 || row >= g.height) continue;
    const Tap* taps = source.rows + static_cast<int64_t>(row) * source.row_slots;
    for (int t = 0; t < source.row_slots; ++t) {
      const Tap tap = taps[t];
      if (tap.weight == 0) break;
      const int at = (tap.index * source.width * g.kernel + dy) * g.kernel * g.stride;
      Term<kLines> term{};
      int same = 0;
      for (; same < count; ++same) {
        term = terms[begin + same];
        if (term.at == at) break;
      }
      if (same == count) {
        term = {at, {}};
        ++count;
      }
      UNROLL
      for (int i = 0; i < kLines; ++i) {
        if (i == line) term.weights[i] = tap.weight;
      }
      terms[begin + same] = term;
    }
  }
  return count;
}

/// The band is [columns of all sources, k, packs, lines]: k is odd, and so is kLines, so that neighbouring
/// columns lie in different banks.
template <class T, int kLanes, int kLines>
__global__ void __launch_bounds__(kThreads, kLanes* kLines > 4 ? 2 : 4)
    gather_taps_kernel(TapSources g, Finish<T> finish) {
  using Pack = Lanes<float, kLanes>;
  DYNAMIC_SHARED(Pack, band);
  SHARED_ARRAY(Term<kLines>, terms, kMostTerms);
  SHARED_ARRAY(int, counts, kMostTerms);
  const auto thread = static_cast<int>(threadIdx.x);
  const int pack = thread % g.packs, first = thread / g.packs, step = kThreads / g.packs;
  const int radius = g.kernel / 2, all_pairs = g.count * g.kernel;
  const GatherShares shares(g, kLanes, kLines);
  for (auto share = static_cast<int>(blockIdx.x); share < shares.count;
       share += static_cast<int>(gridDim.x)) {
    const int n = (share % shares.chunks * g.packs + pack) * kLanes;
    const int patch = share / shares.chunks / shares.groups;
    const int row = share / shares.chunks % shares.groups * kLines;
    for (int pair = 0; pair < all_pairs; pair += g.pairs) {
      const int last_pair = std::min(pair + g.pairs, all_pairs);
      for (int i = pair + thread; i < last_pair; i += kThreads) {
        const int begin = (i - pair) * g.most_rows;
        counts[i - pair] = list_terms<kLines>(terms, begin, g, g.sources[i / g.kernel], row, i % g.kernel);
      }
      __syncthreads();
      for (int i = first, s = 0; i < g.band_columns * g.kernel && n < g.channels; i += step) {
        while (i >= (g.sources[s].band + g.sources[s].width) * g.kernel) ++s;
        const TapSource& source = g.sources[s];
        const int begin = std::max(s * g.kernel, pair), end = std::min((s + 1) * g.kernel, last_pair);
        if (begin >= end) continue;
        const int column = i / g.kernel - source.band, dx = i % g.kernel;
        const float* from = source.products + patch * source.patch_stride +
                            (column * g.kernel * g.kernel + dx) * g.stride + n;
        const int to = (i * g.packs + pack) * kLines;
        Pack sums[kLines] = {};
        if (begin > s * g.kernel) {  // the rest of what did not fit
          UNROLL
          for (int line = 0; line < kLines; ++line) sums[line] = band[to + line];
        }
        for (int p = begin; p < end; ++p) {
          const int count = counts[p - pair];
          for (int t = 0; t < count; t += kFlight) {
            const int place = (p - pair) * g.most_rows + t;
            Pack parts[kFlight];
            UNROLL
            for (int u = 0; u < kFlight; ++u) {
              if (t + u >= count) continue;
              const Term<kLines> term = terms[place + u];
              parts[u] = read_lanes<float, kLanes>(from + term.at);
            }
            UNROLL
            for (int u = 0; u < kFlight; ++u) {
              if (t + u >= count) continue;
              const Term<kLines> term = terms[place + u];
              UNROLL
              for (int line = 0; line < kLines; ++line) {
                if (term.weights[line] != 0) add_weighted(sums[line], term.weights[line], parts[u]);
              }
            }
          }
        }
        UNROLL
        for (int line = 0; line < kLines; ++line) band[to + line] = sums[line];
      }
      // The next terms are written where these were.
      __syncthreads();
    }
    const int first_line = patch * g.height + row, lines = std::min(kLines, g.height - row);
    for (int column = first; column < g.width && n < g.channels; column += step) {
      Pack sums[kLines] = {};
      const int first_dx = std::max(0, radius - column);
      const int last_dx = std::min(g.kernel, g.width + radius - column);
      if (g.columns) {
        for (int dx = first_dx; dx < last_dx; ++dx) {
          const int at = (column + dx - radius) * g.kernel + dx;
          UNROLL
          for (int line = 0; line < kLines; ++line) {
            if (line >= lines) continue;
            const int64_t product = static_cast<int64_t>(first_line + line) * g.width * g.kernel + at;
            add_weighted(sums[line], 1, read_lanes<float, kLanes>(g.columns + product * g.stride + n));
          }
        }
      }
      for (int s = 0; s < g.count; ++s) {
        const TapSource& source = g.sources[s];
        const int slots = source.column_slots;
        const Tap* taps = source.columns + static_cast<int64_t>(column + first_dx - radius) * slots;
        for (int dx = first_dx; dx < last_dx; ++dx, taps += slots) {
          for (int t = 0; t < slots; t += 2) {
            const Tap left = taps[t], right = tap_at(taps, t + 1, slots);
            if (left.weight == 0) break;
            const bool two = right.weight != 0;
            const int to_left = (((source.band + left.index) * g.kernel + dx) * g.packs + pack) * kLines;
            const int to_right =
                two ? (((source.band + right.index) * g.kernel + dx) * g.packs + pack) * kLines : to_left;
            UNROLL
            for (int line = 0; line < kLines; ++line) {
              const Pack a = band[to_left + line], b = band[to_right + line];
              add_weighted(sums[line], left.weight, a);
              if (two) add_weighted(sums[line], right.weight, b);
            }
          }
        }
      }
      UNROLL
      for (int line = 0; line < kLines; ++line) {
        if (line >= lines) continue;
        Quad<float> sum{};
        UNROLL
        for (int i = 0; i < kLanes; ++i) sum.v[i] = sums[line].v[i];
        finish.store(static_cast<int64_t>(first_line + line) * g.width + column, n, sum,
                     std::min(kLanes, g.channels - n));
      }
    }
    // The next share writes the band again.
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
  /// What a product of so many channels has room for: aligned to quads, unless that takes more tiles of those
  /// by columns.
  int64_t room(int64_t channels) const {
    const int64_t quads = round_up(channels, 4);
    const auto tiles = [&](int64_t each) { return (kernel * each + kSquare - 1) / kSquare; };
    return by_columns.empty() || tiles(quads) == tiles(channels) ? quads : channels;
  }
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
  while (group > 1 && (4 * room(outputs) * (group * own + common) > scratch_bytes() ||
                       made_bytes(group) > scratch_bytes())) {
    --group;
  }
  if (4 * room(outputs) * (own + common) <= scratch_bytes()) return;
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
  // Of a product with so many rows a patch and columns an output. Fewer may be cut in more parts, so the last
  // group and the last slice count as well.
  const auto cut = [&](int64_t rows, bool shared, auto columns, const std::vector<Part>& sources,
                       int64_t taps) {
    int64_t depth = 0;
    for (const Part& part : sources) depth += part.source->channels() * taps;
    if (!on_tensor_cores || !depth) return;
    for (const int64_t patches : {group, batch % group}) {
      for (const int64_t channels : {slice, outputs % slice}) {
        if (!patches || !channels) continue;
        const TensorCut parts = tensor_cut(rows * (shared ? 1 : patches), columns(channels), depth);
        most_parts = std::max(most_parts, parts.bytes);
      }
    }
  };
  for (TapSet& set : by_taps) {
    const int64_t pixels = (set.any().shared ? 1 : group) * set.any().pixels();
    set.tables = reserve(static_cast<int64_t>(set.rows.bytes() + set.columns.bytes()));
    set.products = reserve(4 * pixels * area() * room(slice));
    cut(set.any().pixels(), set.any().shared, [&](int64_t n) { return area() * room(n); }, set.parts, 1);
  }
  if (accumulates) sums = reserve(4 * group * height * width * slice);
  if (!by_columns.empty()) columns = reserve(4 * group * height * width * kernel * room(slice));
  cut(height * width, false, [](int64_t n) { return n; }, direct, area());
  cut(height * width, false, [&](int64_t n) { return kernel * room(n); }, by_columns, kernel);
  parts = reserve(static_cast<int64_t>(most_parts));
  int64_t most = 0;
  for_each_made([&](Part& part, int64_t pixels) {
    part.map = reserve((part.shared ? 1 : group) * pixels * part.source->channels() *
                       static_cast<int64_t>(size_of(op.y.dtype)));
    // As another grid sees it, or only cropped.
    const size_t seen = chain_along(*part.source, 0).bytes() + chain_along(*part.source, 1).bytes();
    const int64_t cropped = (part.height() + part.width()) * static_cast<int64_t>(sizeof(Tap));
    most = std::max({most, static_cast<int64_t>(seen), cropped});
  });
  making = reserve(most);
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
  int room() const { return static_cast<int>(plan_.room(channels_)); }
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
    op.sources = {s};
    GridSource& some = op.sources.front();
    if (s.cropped()) {
      some.tops.assign(s.tops.begin() + patch, s.tops.begin() + patch + count);
      some.lefts.assign(s.lefts.begin() + patch, s.lefts.begin() + patch + count);
    } else {
      some.x.data = s.x.as<T>() + patch * s.x.dim(1) * s.x.dim(2) * s.channels();
      some.x.shape[0] = count;
    }
    if (!resized) some.sizes.clear(), some.set_window(0, 0, 0, 0);
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
           Products{floats_at(set.products), w.split, room()});
    }
  }

  /// Sources of a product on tensor cores, and its outputs; taps are still to be set.
  TensorProduct product_of(const std::vector<Part>& parts, bool resized) const {
    const auto channels = static_cast<int>(op_.weight.dim(1));
    const auto stride = static_cast<int>(plan_.area()) * channels;
    TensorProduct product{.weights = tensor_weight(op_.weight, context_) + output_ * stride,
                          .columns = channels_,
                          .outputs = channels_,
                          .room = channels_,
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
      product.split(kernel, channels, room());
      tensor_gemm(context_, product, Rows{floats_at(plan_.columns), product.columns}, parts);
    }
    for (const TapSet& set : plan_.by_taps) {
      TensorProduct product = product_of(set.parts, false);
      product.split(kernel * kernel, channels, room());
      tensor_gemm(context_, product, Rows{floats_at(set.products), product.columns}, parts);
    }
  }

  void gather() const {
    const int stride = room();
    TapSources g{.sources = {},
                 .count = static_cast<int>(plan_.by_taps.size()),
                 .band_columns = static_cast<int>(plan_.band_columns),
                 .columns = plan_.by_columns.empty() ? nullptr : floats_at(plan_.columns),
                 .patches = static_cast<int>(count_),
                 .height = static_cast<int>(plan_.height),
                 .width = static_cast<int>(plan_.width),
                 .kernel = static_cast<int>(plan_.kernel),
                 .channels = channels_,
                 .stride = stride,
                 .packs = 1,
                 .most_rows = 1,
                 .pairs = 1};
    int band = 0;
    for (size_t i = 0; i < plan_.by_taps.size(); ++i) {
      const TapSet& set = plan_.by_taps[i];
      const Part& part = set.any();
      g.sources[i] = {floats_at(set.products),
                      part.shared ? 0 : part.pixels() * plan_.area() * stride,
                      row_taps(set),
                      column_taps(set),
                      set.rows.slots(),
                      set.columns.slots(),
                      static_cast<int>(part.width()),
                      band};
      band += static_cast<int>(part.width());
    }
    const bool quads = stride % 4 == 0 && 4 * lane_bytes() <= kGatherBytes;
    return quads ? gather<4>(g) : gather<1>(g);
  }

  /// Of the band, for a channel of a line.
  int64_t lane_bytes() const { return plan_.band_columns * plan_.kernel * 4; }

  /// Rows that so many lines read of a source with one row of the kernel.
  int most_rows(int lines) const {
    int most = 1;
    for (const TapSet& set : plan_.by_taps) {
      most = std::max(most, std::min(lines * set.rows.slots(), set.rows.lengths[0]));
    }
    return most;
  }

  template <int kLanes>
  void gather(TapSources& g) const {
    const auto packs_for = [&](int lines) {
      int packs = 32 / kLanes;
      while (packs > 1 &&
             (packs / 2 * kLanes >= g.channels || packs * kLanes * lines * lane_bytes() > kGatherBytes)) {
        packs /= 2;
      }
      return packs;
    };
    // Lines read the same rows of the sources, so that they come before channels, of which a few use memory
    // as well.
    g.packs = packs_for(kMostLines);
    const bool fits = g.packs * kLanes >= std::min(g.channels, kSectorChannels) &&
                      g.packs * kLanes * kMostLines * lane_bytes() <= kGatherBytes &&
                      most_rows(kMostLines) <= kMostTerms;
    if (fits && GatherShares(g, kLanes, kMostLines).count >= kBusyBlocks / 2) {
      return gather<kLanes, kMostLines>(g);
    }
    g.packs = packs_for(1);
    gather<kLanes, 1>(g);
  }

  template <int kLanes, int kLines>
  void gather(TapSources& g) const {
    g.most_rows = most_rows(kLines);
    g.pairs = kMostTerms / g.most_rows;
    const int64_t blocks = std::min<int64_t>(GatherShares(g, kLanes, kLines).count, kMostBlocks);
    launch(gather_taps_kernel<T, kLanes, kLines>, static_cast<unsigned>(blocks), kThreads,
           static_cast<size_t>(g.packs * kLanes * kLines * lane_bytes()), stream_of(context_), g,
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
