// The aggregation convolution, source by source. What is on the target grid already goes through an ordinary
// convolution. A source on a smaller grid goes through its taps: one 1x1 convolution gives the products of
// each of its pixels with all k x k matrices of the kernel, and a gather, the same for all such sources, adds
// them up for each pixel of y: per row of y first down the columns, to k maps (one for each column of the
// kernel) of one row of the source's width, then along the row. A tap that steps outside the target grid has
// no term, so that the zero padding is exact. With few outputs a source on the target grid goes half this
// way, unless its convolution has a cheaper form (Convolution::cost): one convolution by each column of the
// kernel gives k maps, and the gather adds them up along the row.
// Products of sources that lie alike are added up before they are gathered.
//
// The products of all sources are alive together, so that y is written once: the outputs are done in slices,
// and the patches in groups, such that they fit kProductBudget. Then the last ordinary convolution hands its
// sums over in rows, and the gather adds to them while they are in the cache; those before it accumulate in a
// float32 buffer.
#include "cpu/aggregate_conv.h"

#include <omp.h>

#include <cmath>
#include <cstring>
#include <memory>

#include "cpu/convolution.h"
#include "cpu/kernels.h"
#include "cpu/parallel.h"
#include "cpu/sampling.h"
#include "cpu/term.h"
#ifdef GLNET_X86
#include "cpu/avx512/gather.h"
#include "cpu/machine.h"
#endif

namespace glnet::cpu {
namespace {

constexpr int64_t kRowsAtOnce = 8;  // that a thread gathers before it takes the next ones

int64_t round_up(int64_t n, int64_t to) {
  return (n + to - 1) / to * to;
}

/// Lists of terms, one for each position of an axis.
struct Terms {
  std::vector<int32_t> starts{0};
  std::vector<Term> terms;

  const Term* begin(int64_t i) const { return terms.data() + starts[static_cast<size_t>(i)]; }
  int count(int64_t i) const { return static_cast<int>(begin(i + 1) - begin(i)); }
  void end_list() { starts.push_back(static_cast<int32_t>(terms.size())); }
};

typedef float Vector __attribute__((vector_size(4 * kLanes)));

/// sum += weight * from[0 ... kLanes)
[[gnu::always_inline]] inline void add_to(Vector& sum, float weight, const float* from) {
  Vector v;
  std::memcpy(&v, from, sizeof v);
  sum += weight * v;
}

template <int kVectors>
[[gnu::always_inline]] inline void sum_block(const float* base, const Term* terms, int count,
                                             const Initial& initial, int64_t at, bool relu, float* out) {
  Vector sum[kVectors] = {};
  for (const float* row : initial) {
    if (!row) continue;
    for (int v = 0; v < kVectors; ++v) add_to(sum[v], 1, row + at + v * kLanes);
  }
  for (int t = 0; t < count; ++t) {
    const float* from = base + terms[t].offset + at;
    for (int v = 0; v < kVectors; ++v) add_to(sum[v], terms[t].weight, from + v * kLanes);
  }
  for (int v = 0; v < kVectors; ++v) {
    if (relu) sum[v] = sum[v] < 0 ? Vector{} : sum[v];
    std::memcpy(out + at + v * kLanes, &sum[v], sizeof sum[v]);
  }
}

/// The last `n` < kLanes elements. Terms are read in whole vectors: kLanes floats after them are there.
[[gnu::always_inline]] inline void sum_rest(const float* base, const Term* terms, int count,
                                            const Initial& initial, int64_t at, int64_t n, bool relu,
                                            float* out) {
  Vector sum{};
  for (int t = 0; t < count; ++t) add_to(sum, terms[t].weight, base + terms[t].offset + at);
  float sums[kLanes];
  std::memcpy(sums, &sum, sizeof sum);
  for (const float* row : initial) {
    if (!row) continue;
    for (int64_t i = 0; i < n; ++i) sums[i] += row[at + i];
  }
  for (int64_t i = 0; i < n; ++i) out[at + i] = relu && sums[i] < 0 ? 0 : sums[i];
}

/// out[0 ... n) = relu(sum of the initial rows and of the terms). `out` may be one of the initial rows.
GLNET_MULTIVERSION void weighted_sum(const float* base, const Term* terms, int count, Initial initial,
                                     int64_t n, bool relu, float* out) {
  int64_t i = 0;
  for (; i + 8 * kLanes <= n; i += 8 * kLanes) sum_block<8>(base, terms, count, initial, i, relu, out);
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) sum_block<2>(base, terms, count, initial, i, relu, out);
  for (; i + kLanes <= n; i += kLanes) sum_block<1>(base, terms, count, initial, i, relu, out);
  if (i < n) sum_rest(base, terms, count, initial, i, n - i, relu, out);
}

GLNET_MULTIVERSION void to_float(const bfloat16* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<float>(from[i]);
}

GLNET_MULTIVERSION void to_bfloat16(const float* from, int64_t n, bfloat16* to) {
  for (int64_t i = 0; i < n; ++i) to[i] = bfloat16(from[i]);
}

/// What becomes of one source.
struct Part {
  Way way = Way::plain;
  const GridSource* source = nullptr;
  int64_t first = 0;    ///< its first input channel in the weight
  bool direct = false;  ///< read in place; else its crops or its resized maps are made first
  bool shared = false;  ///< the same for every patch
  int64_t batch = 1;    ///< maps that one convolution takes
  std::shared_ptr<const Convolution> convolution;
  // Of taps: the rows and columns of the source's own grid that are read, where its products lie, how far
  // apart those of two patches, and where its rows lie in a band.
  int64_t top = 0, left = 0, height = 0, width = 0;
  int64_t products = 0, next_patch = 0, band = 0;
  Terms rows;
  Terms along;         ///< of columns: of a row of products
  bool joins = false;  ///< its products are added to those of an earlier part, `host`
  size_t host = 0;

  /// Whether the products of this and of another part are gathered alike.
  bool lies_like(const Part& other) const {
    if (way != other.way || shared != other.shared) return false;
    if (way == Way::columns) return true;
    const GridSource &a = *source, &b = *other.source;
    return a.x.dim(1) == b.x.dim(1) && a.x.dim(2) == b.x.dim(2) && a.tops == b.tops && a.lefts == b.lefts &&
           a.crop_height == b.crop_height && a.crop_width == b.crop_width && a.sizes == b.sizes &&
           a.windowed() == b.windowed() && a.window_top == b.window_top && a.window_left == b.window_left &&
           a.window_skip_rows == b.window_skip_rows && a.window_skip_columns == b.window_skip_columns;
  }
};

/// The positions that are read along an axis: first and number, at least one.
std::pair<int64_t, int64_t> extent(const AxisSampling& sampling) {
  int32_t first = INT32_MAX, last = 0;
  for (const AxisSampling::Entry& e : sampling.entries) {
    first = std::min(first, e.index), last = std::max(last, e.index);
  }
  return sampling.entries.empty() ? std::pair<int64_t, int64_t>{0, 1}
                                  : std::pair<int64_t, int64_t>{first, last - first + 1};
}

/// How an op is done; the same in `prepare` and in the kernel.
struct Plan {
  Plan(const AggregateConv& op, int threads);

  const AggregateConv& op;
  int threads;
  int64_t outputs, kernel, batch, height, width;
  std::vector<Part> plain, taps;  ///< the second: all that is gathered
  bool gathers;                   ///< else the last plain convolution finishes y
  bool accumulates;  ///< plain convolutions but the last add up in float32 before the products; else in y
  bool adds_up;      ///< the first plain convolution adds to the addend, whose memory y has
  int64_t slice, slices, group;
  Terms columns;
  // The workspace: the convolutions', maps that had to be made, sums and products, and a band and a row of
  // each thread.
  int64_t scratch_bytes = 0, map_bytes = 0, product_floats = 0, band_floats = 0, row_floats = 0;

  /// Products of a pixel of a source: in whole vectors.
  int64_t products_of(const Part& part) const {
    const int64_t n = (part.way == Way::taps ? kernel * kernel : kernel) * slice;
    return n < kLanes ? n : round_up(n, kLanes);
  }
  int64_t thread_floats() const { return round_up(band_floats + row_floats, kLanes); }
  size_t workspace_bytes() const {
    return static_cast<size_t>(scratch_bytes + map_bytes + 4 * (product_floats + threads * thread_floats()));
  }

 private:
  void choose_slices();
  void compile(Part& part, ConvolutionSpec spec, int64_t map_height, int64_t map_width);
  void lay_out();
};

Plan::Plan(const AggregateConv& op, int threads)
    : op(op),
      threads(threads),
      outputs(op.weight.dim(0)),
      kernel(op.weight.dim(2)),
      batch(op.y.dim(0)),
      height(op.y.dim(1)),
      width(op.y.dim(2)) {
  int64_t first = op.first;
  for (const GridSource& s : op.sources) {
    Part part;
    part.source = &s;
    if (s.windowed()) {
      std::tie(part.top, part.height) = extent(sampling_of(s, 0));
      std::tie(part.left, part.width) = extent(sampling_of(s, 1));
    } else {
      part.height = s.base_height(), part.width = s.base_width();
    }
    part.way = best_way({.own = part.height * part.width,
                         .target = height * width,
                         .channels = s.channels(),
                         .width = width,
                         .resized = !s.sizes.empty()},
                        op.weight);
    if (part.way == Way::columns) part.height = height, part.width = width;
    part.first = first;
    first += s.channels();
    part.shared = s.batch() == 1 && batch > 1;
    part.direct = !s.cropped() && !s.windowed() && (part.way == Way::taps || s.sizes.empty());
    (part.way == Way::plain ? plain : taps).push_back(std::move(part));
  }
  const bool narrow = op.y.dtype != DType::float32;
  gathers = !taps.empty() || (narrow && plain.size() > 1);
  accumulates = gathers && plain.size() > 1;
  adds_up = op.overwrite && !gathers;
  for (size_t i = 1; i < taps.size(); ++i) {
    for (size_t j = 0; j < i && !taps[i].joins; ++j) {
      taps[i].joins = !taps[j].joins && taps[i].lies_like(taps[j]);
      taps[i].host = j;
    }
  }
  choose_slices();

  for (size_t i = 0; i < plain.size(); ++i) {
    Part& part = plain[i];
    const bool last = i + 1 == plain.size();
    // What is made first is made for one patch at a time, unless it is small.
    const bool several = !part.shared && (part.direct || part.source->windowed());
    part.batch = several ? group : 1;
    ConvolutionSpec spec{.outputs = slice,
                         .kernel_height = kernel,
                         .kernel_width = kernel,
                         .padding_height = kernel / 2,
                         .padding_width = kernel / 2};
    if (gathers) {
      spec.by_rows = last;
      spec.accumulate = i > 0 && !last;
    } else {
      spec.output = op.y.dtype;
      spec.bias = i == 0 && op.bias;
      spec.accumulate = i > 0 || adds_up;
      spec.residual = i == 0 && op.addend && !adds_up;
      spec.relu = last && op.relu;
    }
    compile(part, spec, height, width);
  }
  for (Part& part : taps) {
    part.batch = part.shared ? 1 : group;
    ConvolutionSpec spec{.outputs = products_of(part), .accumulate = part.joins};
    if (part.way == Way::columns) spec.kernel_height = kernel, spec.padding_height = kernel / 2;
    compile(part, spec, part.height, part.width);
  }
  if (gathers) lay_out();
}

void Plan::choose_slices() {
  // Floats alive for each output channel, of one patch and of what is the same for all.
  int64_t own = accumulates ? height * width : 0, common = 0;
  for (const Part& part : taps) {
    if (part.joins) continue;
    const int64_t taps = part.way == Way::taps ? kernel * kernel : kernel;
    (part.shared ? common : own) += part.height * part.width * taps;
  }
  slice = outputs, slices = 1, group = batch;
  if (!gathers) return;
  while (group > 1 && (batch % group || 4 * outputs * (group * own + common) > kProductBudget)) --group;
  if (4 * outputs * (own + common) <= kProductBudget || outputs <= kLanes) return;
  // The widest slice that fits, of those that pad the outputs the least.
  int64_t least = 0;
  for (int64_t n = kLanes; n == kLanes || 4 * n * (own + common) <= kProductBudget; n += kLanes) {
    const int64_t padded = round_up(outputs, n);
    if (least && padded > least) continue;
    least = padded, slice = n, slices = padded / n;
  }
}

void Plan::compile(Part& part, ConvolutionSpec spec, int64_t map_height, int64_t map_width) {
  spec.batch = part.batch;
  spec.height = map_height;
  spec.width = map_width;
  spec.channels = part.source->channels();
  spec.input = op.weight.dtype;
  spec.threads = threads;
  part.convolution = Convolution::get(spec);
  scratch_bytes =
      std::max(scratch_bytes, round_up(static_cast<int64_t>(part.convolution->workspace_bytes()), 64));
  if (part.direct) return;
  const int64_t elements = part.batch * map_height * map_width * spec.channels;
  map_bytes = std::max(map_bytes, round_up(elements * static_cast<int64_t>(size_of(spec.input)), 64));
}

void Plan::lay_out() {
  if (accumulates) product_floats = round_up(group * height * width * slice, kLanes);
  if (op.y.dtype != DType::float32) row_floats = 2 * width * slice;
  for (Part& part : taps) {
    if (part.joins) {
      part.products = taps[part.host].products;
      continue;
    }
    const int64_t row = part.width * products_of(part);
    part.products = product_floats;
    part.next_patch = part.shared ? 0 : part.height * row;
    product_floats += round_up(part.batch * part.height * row, kLanes);
    if (part.way == Way::columns) {
      for (int64_t x = 0; x < width; ++x) {
        for (int64_t dx = 0; dx < kernel; ++dx) {
          const int64_t at = x + dx - kernel / 2;
          if (at < 0 || at >= width) continue;
          part.along.terms.push_back({static_cast<int32_t>(at * products_of(part) + dx * slice), 1});
        }
        part.along.end_list();
      }
      continue;
    }
    part.band = band_floats;
    band_floats += part.width * kernel * slice;

    const AxisSampling sampling = sampling_of(*part.source, 0);
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t dy = 0; dy < kernel; ++dy) {
        const int64_t at = y + dy - kernel / 2;
        if (at < 0 || at >= height) continue;
        for (const auto* e = sampling.begin(at); e != sampling.end(at); ++e) {
          const int64_t offset = (e->index - part.top) * row + dy * kernel * slice;
          part.rows.terms.push_back({static_cast<int32_t>(offset), e->weight});
        }
      }
      part.rows.end_list();
    }
  }
  std::vector<AxisSampling> samplings;
  for (const Part& part : taps) samplings.push_back(sampling_of(*part.source, 1));
  for (int64_t x = 0; x < width; ++x) {
    for (size_t i = 0; i < taps.size(); ++i) {
      if (taps[i].joins || taps[i].way == Way::columns) continue;
      for (int64_t dx = 0; dx < kernel; ++dx) {
        const int64_t at = x + dx - kernel / 2;
        if (at < 0 || at >= width) continue;
        for (const auto* e = samplings[i].begin(at); e != samplings[i].end(at); ++e) {
          const int64_t offset = taps[i].band + ((e->index - taps[i].left) * kernel + dx) * slice;
          columns.terms.push_back({static_cast<int32_t>(offset), e->weight});
        }
      }
    }
    columns.end_list();
  }
  // For sum_rest.
  product_floats += kLanes;
  band_floats += kLanes;
}

/// Packs the input channels of one part, an output slice after the other: of a plain part as [slice, C, k,
/// k], of taps as [k * k * slice, C], of columns as [k * slice, C, k, 1]. Outputs past the last are zero.
template <class Element>
void pack_part(const Convolution& convolution, const Shape& weight, int64_t first, int64_t channels,
               int64_t slice, Way way, size_t packed_bytes, const void* from, void* to) {
  const int64_t outputs = weight[0], area = weight[2] * weight[3];
  const auto dense =
      std::make_unique_for_overwrite<Element[]>(static_cast<size_t>(convolution.weight_elements()));
  // Taps and columns may be rounded up to whole vectors.
  std::fill(dense.get() + slice * channels * area, dense.get() + convolution.weight_elements(), Element{});
  for (int64_t begin = 0; begin < outputs; begin += slice) {
    parallel_for(omp_get_max_threads(), slice, [&](int64_t i) {
      const int64_t k = begin + i;
      const auto* source = static_cast<const Element*>(from) + (k * weight[1] + first) * area;
      if (way == Way::plain && k < outputs) {
        std::copy_n(source, channels * area, dense.get() + i * channels * area);
        return;
      }
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t row = 0; row < weight[2]; ++row) {
          for (int64_t column = 0; column < weight[3]; ++column) {
            const int64_t t = row * weight[3] + column;
            const int64_t at = way == Way::taps      ? (t * slice + i) * channels + c
                               : way == Way::columns ? ((column * slice + i) * channels + c) * weight[2] + row
                                                     : (i * channels + c) * area + t;
            dense[static_cast<size_t>(at)] = k < outputs ? *source++ : Element{};
          }
        }
      }
    });
    convolution.pack(dense.get(),
                     static_cast<std::byte*>(to) + static_cast<size_t>(begin / slice) * packed_bytes);
  }
}

size_t packed_slice_bytes(const Part& part) {
  return static_cast<size_t>(round_up(static_cast<int64_t>(part.convolution->packed_bytes()), 64));
}

void request_packed(const Plan& plan, const Part& part, Prepare& prepare) {
  const int64_t channels = part.source->channels();
  const int64_t slice = plan.slice;
  std::ostringstream layout;
  layout << name_of(part.way) << " of " << channels << " channels from " << part.first << ", outputs by "
         << slice << ", " << part.convolution->layout();
  const auto pack = plan.op.weight.dtype == DType::float32 ? pack_part<uint32_t> : pack_part<uint16_t>;
  prepare.pack(
      plan.op.weight, layout.str(), static_cast<size_t>(plan.slices) * packed_slice_bytes(part),
      [=, convolution = part.convolution, weight = plan.op.weight.shape, first = part.first, way = part.way,
       bytes = packed_slice_bytes(part)](const Context&, const void* from, void* to) {
        pack(*convolution, weight, first, channels, slice, way, bytes, from, to);
      });
}

class Run {
 public:
  Run(const AggregateConv& op, const Context& context)
      : op_(op),
        context_(context),
        plan_(op, context.threads),
        scratch_(static_cast<std::byte*>(context.workspace)),
        map_(scratch_ + plan_.scratch_bytes),
        products_(reinterpret_cast<float*>(map_ + plan_.map_bytes)),
        bands_(products_ + plan_.product_floats) {}

  void operator()() {
    if (!plan_.gathers) {
      convolve(plan_.plain.size(), 0, 0, op_.y.data);
      return;
    }
    for (int64_t slice = 0; slice < plan_.slices; ++slice) {
      for (int64_t patch = 0; patch < plan_.batch; patch += plan_.group) {
        if (plan_.accumulates) convolve(plan_.plain.size() - 1, patch, slice, products_);
        multiply(patch, slice);
        if (plan_.plain.empty()) {
          gather(patch, slice);
        } else {
          convolve_and_gather(patch, slice);
        }
      }
    }
  }

 private:
  const void* packed(size_t part, int64_t slice, const Part& of) const {
    return static_cast<const std::byte*>(context_.packed[part]) +
           static_cast<size_t>(slice) * packed_slice_bytes(of);
  }

  /// Some patches of a source: where they are, or made in the workspace, resized or only cropped.
  const void* maps(const Part& part, int64_t patch, int64_t count, bool resized) {
    CropResize op;
    op.sources = {*part.source};
    GridSource& s = op.sources.front();
    if (part.shared) patch = 0, count = 1;
    if (s.cropped()) {
      s.tops.assign(part.source->tops.begin() + patch, part.source->tops.begin() + patch + count);
      s.lefts.assign(part.source->lefts.begin() + patch, part.source->lefts.begin() + patch + count);
    } else {
      s.x.shape[0] = count;
      s.x.data =
          s.x.as<std::byte>() + static_cast<size_t>(patch) * (s.x.bytes() / static_cast<size_t>(count));
    }
    if (part.direct) return s.x.data;
    if (!resized) {
      s.sizes.clear();
      s.set_window(part.top, part.left, part.height, part.width);
    }
    op.infer();
    op.y.data = map_;
    crop_resize(op, context_);
    return map_;
  }

  /// The first `count` plain parts of a group and a slice, into `to`.
  void convolve(size_t count, int64_t patch, int64_t slice, void* to) {
    const size_t element = size_of(plan_.gathers ? DType::float32 : op_.y.dtype);
    const size_t map = static_cast<size_t>(plan_.height * plan_.width * plan_.slice) * element;
    for (size_t i = 0; i < count; ++i) {
      const Part& part = plan_.plain[i];
      for (int64_t n = 0; n < plan_.group; n += part.batch) {
        const size_t offset = static_cast<size_t>(n) * map;
        part.convolution->run(maps(part, patch + n, part.batch, true), packed(i, slice, part),
                              op_.bias.as<float>(),
                              op_.addend ? op_.addend.as<std::byte>() + offset : nullptr,
                              static_cast<std::byte*>(to) + offset, scratch_);
      }
    }
  }

  /// The products of a group and a slice.
  void multiply(int64_t patch, int64_t slice) {
    for (size_t i = 0; i < plan_.taps.size(); ++i) {
      const Part& part = plan_.taps[i];
      part.convolution->run(maps(part, patch, part.batch, part.way == Way::columns),
                            packed(plan_.plain.size() + i, slice, part), nullptr, nullptr,
                            products_ + part.products, scratch_);
    }
  }

  void gather(int64_t patch, int64_t slice) {
    const int64_t rows = plan_.group * plan_.height;
    parallel_for(plan_.threads, (rows + kRowsAtOnce - 1) / kRowsAtOnce, [&](int64_t i) {
      for (int64_t row = i * kRowsAtOnce; row < std::min(rows, (i + 1) * kRowsAtOnce); ++row)
        gather_row(patch, row, slice, nullptr);
    });
  }

  /// The last plain part of a group and a slice, whose rows are gathered as they come.
  void convolve_and_gather(int64_t patch, int64_t slice) {
    const Part& part = plan_.plain.back();
    const int64_t line = plan_.width * plan_.slice;
    for (int64_t n = 0; n < plan_.group; n += part.batch) {
      part.convolution->run_rows(
          maps(part, patch + n, part.batch, true), packed(plan_.plain.size() - 1, slice, part), scratch_,
          [&](int64_t begin, int64_t end, const float* sums) {
            for (int64_t row = begin; row < end; ++row)
              gather_row(patch, n * plan_.height + row, slice, sums + (row - begin) * line);
          });
    }
  }

  /// One row of y, of all rows of a group, the channels of a slice. `sums` are those of the last plain part.
  void gather_row(int64_t patch, int64_t row_of_group, int64_t slice, const float* sums) {
    const int64_t n = row_of_group / plan_.height, row = row_of_group % plan_.height;
    float* band = bands_ + omp_get_thread_num() * plan_.thread_floats();
    const int64_t width = plan_.width, first = slice * plan_.slice;
    const int64_t channels = std::min(plan_.slice, plan_.outputs - first);
    const Part* last = nullptr;  // of those that are added up along the row only
    for (const Part& part : plan_.taps) {
      if (part.joins) continue;
      if (part.way == Way::columns) {
        last = &part;
        continue;
      }
      const float* products = products_ + part.products + n * part.next_patch;
      const int64_t across = plan_.kernel * plan_.slice;
      for (int64_t x = 0; x < part.width; ++x) {
        weighted_sum(products + x * plan_.products_of(part), part.rows.begin(row), part.rows.count(row), {},
                     across, false, band + part.band + x * across);
      }
    }

    const int64_t at = ((patch + n) * plan_.height + row) * width * plan_.outputs + first;
    const float* bias = op_.bias ? op_.bias.as<float>() + first : nullptr;
    const bool narrow = op_.y.dtype != DType::float32;
#ifdef GLNET_X86
    const bool fused = narrow && has_bfloat16();
#endif
    float* addends = band + plan_.band_floats;
    float* line = addends + width * plan_.slice;
    for (int64_t x = 0; x < width; ++x) {
      const int64_t pixel = at + x * plan_.outputs;
      float* to = narrow ? line + x * plan_.slice : op_.y.as<float>() + pixel;
      Initial initial{bias, sums ? sums + x * plan_.slice : nullptr, nullptr, nullptr};
      if (plan_.accumulates) initial[2] = products_ + ((n * plan_.height + row) * width + x) * plan_.slice;
#ifdef GLNET_X86
      if (fused && !last) {
        const bfloat16* addend = op_.addend ? op_.addend.as<bfloat16>() + pixel : nullptr;
        avx512::gather(op_.y.as<bfloat16>() + pixel, band, plan_.columns.begin(x), plan_.columns.count(x),
                       initial, addend, channels, op_.relu);
        continue;
      }
#endif
      if (op_.addend && narrow) {
        to_float(op_.addend.as<bfloat16>() + pixel, channels, addends + x * plan_.slice);
        initial[3] = addends + x * plan_.slice;
      } else if (op_.addend) {
        initial[3] = op_.addend.as<float>() + pixel;
      }
      weighted_sum(band, plan_.columns.begin(x), plan_.columns.count(x), initial, channels, op_.relu && !last,
                   to);
      for (const Part& part : plan_.taps) {
        if (part.joins || part.way != Way::columns) continue;
        const float* products =
            products_ + part.products + n * part.next_patch + row * width * plan_.products_of(part);
        weighted_sum(products, part.along.begin(x), part.along.count(x), {to, nullptr, nullptr, nullptr},
                     channels, op_.relu && &part == last, to);
      }
      if (narrow) to_bfloat16(to, channels, op_.y.as<bfloat16>() + pixel);
    }
  }

  const AggregateConv& op_;
  const Context& context_;
  Plan plan_;
  std::byte* scratch_;
  std::byte* map_;
  float* products_;
  float* bands_;
};

}  // namespace

namespace {

/// Multiply-adds of the ways to apply a weight, with what gathering costs beside them. Convolutions compute
/// whole vectors of outputs, so that few outputs cost less as taps even on the same grid. A term of the
/// gather costs about as much as two multiply-adds of a convolution.
struct Costs {
  double plain, taps, columns;

  Costs(const TapCost& source, const View& weight) {
    const auto outputs = static_cast<double>(weight.dim(0)), kernel = static_cast<double>(weight.dim(2));
    const auto vectors = [](double n) { return std::ceil(n / kLanes) * kLanes; };
    const auto own = static_cast<double>(source.own), target = static_cast<double>(source.target),
               channels = static_cast<double>(source.channels);
    const double terms = target * vectors(outputs) * kernel;
    plain = target * channels *
            Convolution::cost({.width = source.width,
                               .channels = source.channels,
                               .outputs = weight.dim(0),
                               .kernel_height = weight.dim(2),
                               .kernel_width = weight.dim(3),
                               .input = weight.dtype});
    taps = own * vectors(kernel * kernel * outputs) * channels + 2 * terms * (source.resized ? 2 : 1);
    columns = target * kernel * vectors(kernel * outputs) * channels + 2 * terms;
  }
};

}  // namespace

const char* name_of(Way way) {
  return way == Way::taps ? "taps" : way == Way::columns ? "columns" : "conv";
}

bool taps_pay(const TapCost& source, const View& weight) {
  const Costs costs(source, weight);
  const double products = 4 * static_cast<double>(source.own * weight.size() / weight.dim(1));
  if (source.own >= source.target && products > 2 * kProductBudget) return false;
  return costs.taps < costs.plain;
}

Way best_way(const TapCost& source, const View& weight) {
  const Costs costs(source, weight);
  // Of equal ones, columns: their products are a k-th.
  if (costs.columns < costs.plain && costs.columns <= 1.05 * costs.taps) return Way::columns;
  return taps_pay(source, weight) ? Way::taps : Way::plain;
}

void prepare_aggregate_conv(const AggregateConv& op, Prepare& prepare) {
  const Plan plan(op, prepare.threads());
  prepare.workspace(plan.workspace_bytes());
  for (const Part& part : plan.plain) request_packed(plan, part, prepare);
  for (const Part& part : plan.taps) request_packed(plan, part, prepare);
}

void aggregate_conv(const AggregateConv& op, const Context& context) {
  Run(op, context)();
}

}  // namespace glnet::cpu
