// Tests of graphs, on whatever device is tested. What its engine makes of them is tested in engine.h.
#pragma once

#include "test/cases/core.h"

namespace glnet::test {

/// What batches of patches do, with another number of them in the end: some rounds of ops that read and write
/// elsewhere each time.
class Rounds {
 public:
  Rounds(const Backend& backend, bool graphs) : device_(backend, {.threads = 1}), graphs_(graphs) {
    Builder b(DType::float32, 1);
    window_ = bring(b.bytes({20, 30, 3}));
    weight_ = bring(b.tensor({8, 3, 3, 3}));
    sum_ = bring(b.floats({1, 20, 30, 8}));
    for (const int patches : {2, 2, 2, 2, 1}) round(patches);
    bytes.resize(sum_.view().bytes());
    device_.download(bytes.data(), sum_.view());
    wait(device_);
    launches = device_.engine().graph_launches();
  }

  std::string bytes;
  size_t launches = 0;

 private:
  Tensor bring(const View& values) {
    Tensor tensor = device_.allocate(values.shape, values.dtype, "test");
    device_.upload(tensor.view(), values.data);
    wait(device_);
    return tensor;
  }

  void round(int patches) {
    if (graphs_) device_.begin_graph(static_cast<uint64_t>(patches));
    const auto all = static_cast<size_t>(patches);
    DecodePatches decode;
    decode.x = {window_.view()};
    for (size_t i = 0; i < all; ++i) {
      decode.tops.push_back(3 * round_ + static_cast<int>(i));
      decode.lefts.push_back(5 * round_);
    }
    decode.height = decode.width = 8;
    const Tensor x = device_.submit(std::move(decode))[0];
    Conv2d conv;
    conv.x = {x.view()};
    conv.weight = {weight_.view()};
    conv.padding = 1;
    maps_.push_back(device_.submit(std::move(conv))[0]);
    MergePatches merge;
    merge.sum = {sum_.view()};
    merge.x = {maps_.back().view()};
    merge.tops.assign(all, round_);
    merge.lefts.assign(all, 2 * round_);
    merge.height = 5;
    merge.width = 9;
    device_.submit(std::move(merge));
    if (graphs_) device_.end_graph();
    ++round_;
  }

  Device device_;
  bool graphs_;
  Tensor window_, weight_, sum_;
  std::vector<Tensor> maps_;  ///< held, so that no round finds the memory of another
  int round_ = 0;
};

inline void graphs_cases(Suite& suite) {
  suite.direct("core", "graphs: the same bytes as without, from other places each time", [](Device& device) {
    Findings wrong;
    const Rounds one_by_one(device.backend(), false), in_graphs(device.backend(), true);
    wrong.holds("the same bytes", in_graphs.bytes == one_by_one.bytes);
    wrong.equal("launches without graphs", one_by_one.launches, 0);
    wrong.equal("launches", in_graphs.launches, device.engine().make_graph() ? 5 : 0);
    return wrong.text();
  });
}

}  // namespace glnet::test
