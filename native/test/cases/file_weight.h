// Tests of weights that stay in their file.
#pragma once

#include <fcntl.h>

#include <string_view>

#include "test/cases/core.h"

namespace glnet::test {

/// A file of some values; gone with this, but for who has it open.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::vector<float>& values) : descriptor_(mkstemp(path_)) {
    const size_t bytes = values.size() * sizeof(float);
    if (descriptor_ < 0 || write(descriptor_, values.data(), bytes) != static_cast<ssize_t>(bytes)) {
      throw std::runtime_error("cannot write a temporary file");
    }
  }
  ~TemporaryFile() {
    close(descriptor_);
    unlink(path_);
  }
  int descriptor() const { return descriptor_; }
  std::string path() const { return path_; }

 private:
  char path_[32] = "/tmp/glnet-test-XXXXXX";
  int descriptor_;
};

/// A weight [outputs, channels, k, k] in a file, after four bytes of something else, its outputs by factors;
/// and what it ought to hold.
struct WeightInFile {
  WeightInFile(Builder& b, Shape of, DType type) : shape(std::move(of)), dtype(type) {
    values = b.floats(shape);
    std::vector<float> stored{7};
    for (int64_t k = 0; k < shape[0]; ++k) factors.push_back(0.25F * static_cast<float>(k + 1));
    const int64_t part = values.size() / shape[0];
    for (int64_t i = 0; i < values.size(); ++i) {
      stored.push_back(values.as<float>()[i]);
      values.as<float>()[i] *= factors[static_cast<size_t>(i / part)];
    }
    file = std::make_unique<TemporaryFile>(stored);
    expected = b.allocate(shape, dtype);
    for (int64_t i = 0; i < values.size(); ++i) reference::store(expected, i, values.as<float>()[i]);
  }
  Tensor on(Device& device) const {
    return device.weight(shape, {.file = WeightFile::of(file->descriptor()),
                                 .position = sizeof(float),
                                 .factors = factors,
                                 .dtype = dtype});
  }

  Shape shape;
  DType dtype;
  View values, expected;
  std::vector<float> factors;
  std::unique_ptr<TemporaryFile> file;
};

/// The bytes of y = conv(x), with random x of some sizes.
inline std::string convolved(Device& device, Builder& b, const Tensor& weight, Shape of_x) {
  Builder same(b.dtype(), 5);
  Conv2d op;
  const View values = same.tensor(std::move(of_x));
  const Tensor x = device.allocate(values.shape, values.dtype, "x");
  device.upload(x.view(), values.data);
  op.x = {x.view()};
  op.weight = {weight.view()};
  op.padding = 1;
  const Tensor y = device.submit(op)[0];
  const View got = b.allocate(y.shape, y.dtype);
  device.download(got.data, y.view());
  wait(device);
  return {static_cast<const char*>(got.data), got.bytes()};
}

inline void file_weight_cases(Suite& suite) {
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    suite.direct("core", std::string("a weight in a file: plain values, ") + name_of(dtype),
                 [=](Device& device) {
                   Findings wrong;
                   Builder b(dtype, 1);
                   // More than is read at a time.
                   const WeightInFile weight(b, {5, 1500, 3, 3}, dtype);
                   const size_t before = device.pool().counters().active;
                   const Tensor tensor = weight.on(device);
                   wrong.equal("memory of an unread weight", device.pool().counters().active, before);
                   for (int round = 0; round < 2; ++round) {
                     device.load(*tensor.storage);
                     const View got = b.allocate(weight.shape, dtype);
                     device.download(got.data, tensor.view());
                     wait(device);
                     wrong.holds("the values are the file's by the factors",
                                 !std::memcmp(got.data, weight.expected.data, got.bytes()));
                     tensor.storage->unload();
                     wrong.equal("memory of an unloaded weight", device.pool().counters().active, before);
                   }
                   return wrong.text();
                 });
    suite.direct(
        "core", std::string("a weight in a file: as a convolution's, ") + name_of(dtype),
        [=](Device& device) {
          Findings wrong;
          Builder b(dtype, 1);
          const WeightInFile weight(b, {32, 16, 3, 3}, dtype);
          const Tensor lazy = weight.on(device);
          Tensor held = device.allocate(weight.shape, dtype, "weight");
          device.upload(held.view(), weight.expected.data);
          // Sizes for which the CPU wants several layouts.
          for (const Shape& x :
               {Shape{1, 9, 8, 16}, Shape{2, 64, 64, 16}, Shape{1, 9, 8, 16}, Shape{3, 5, 4, 16}}) {
            wrong.holds("the same convolution",
                        convolved(device, b, lazy, x) == convolved(device, b, held, x));
          }
          lazy.storage->unload();
          wrong.holds("the same after it was unloaded",
                      convolved(device, b, lazy, {1, 9, 8, 16}) == convolved(device, b, held, {1, 9, 8, 16}));
          if (std::string_view(device.backend().name) == "cpu") {
            wrong.holds("packed alone", !lazy.storage->data() && lazy.storage->packed.size() == 1);
          }
          return wrong.text();
        });
  }
  suite.direct("core", "a plan: the same bytes, and nothing left of it", [](Device& device) {
    Findings wrong;
    Builder b(DType::float32, 1);
    const WeightInFile weight(b, {32, 16, 3, 3}, DType::float32);
    const Tensor lazy = weight.on(device);
    const std::string before = convolved(device, b, lazy, {1, 9, 8, 16});
    const auto state = [&] {
      const PoolCounters c = device.pool().counters();
      return std::vector<size_t>{c.active,
                                 c.cached,
                                 c.peak,
                                 c.reserved,
                                 c.blocks,
                                 lazy.storage->packed.size(),
                                 lazy.storage->data() != nullptr};
    };
    // Another layout on the CPU, the values again after they went, a tensor that is written over.
    const auto work = [&] {
      Conv2d op;
      const Tensor x = device.allocate({2, 64, 64, 16}, DType::float32, "x");
      device.clear(x.view());
      op.x = {x.view()};
      op.weight = {lazy.view()};
      op.padding = 1;
      const std::vector<Tensor> y = device.submit(op);
      device.unload(*lazy.storage);
      op.weight = {lazy.view()};
      op.residual = {y[0].view()};
      op.overwrite = true;
      device.submit(op);
    };
    const auto count = state();
    const double multiply_adds = device.multiply_adds();
    device.begin_plan(0);
    work();
    const PoolCounters planned = device.end_plan();
    wrong.holds("all is as it was", state() == count && device.multiply_adds() == multiply_adds);
    wrong.holds("the same values", convolved(device, b, lazy, {1, 9, 8, 16}) == before);
    wrong.holds("still as it was", state() == count);
    device.pool().reset_peak();
    work();
    wait(device);
    wrong.equal("the planned peak", planned.peak, device.pool().counters().peak);
    wrong.equal("the planned reserve", planned.reserved, device.pool().counters().reserved);

    device.begin_plan(1);
    const Tensor never = device.allocate({1 << 20, 1 << 20}, DType::float32, "never");
    wrong.equal("message",
                message_of(ErrorCode::invalid_argument, [&] { device.download(nullptr, never.view()); }),
                "a plan has no values to read");
    wrong.equal("message", message_of(ErrorCode::invalid_argument, [&] { device.begin_plan(0); }),
                "a plan within a plan");
    wrong.holds("a limit does not end a plan", device.end_plan().reserved >= size_t{4} << 40);
    return wrong.text();
  });
  suite.direct("core", "a weight in a file: what is no weight", [](Device& device) {
    Findings wrong;
    const TemporaryFile file({1, 2, 3});
    const auto opened = WeightFile::of(file.descriptor());
    wrong.holds("one file, once", opened == WeightFile::of(file.descriptor()));
    wrong.equal("message",
                message_of(ErrorCode::invalid_argument,
                           [&] { device.weight({3, 1, 1, 1}, {.file = opened, .factors = {1, 2}}); }),
                "a weight of 3 elements has 2 factors");
    wrong.equal(
        "message",
        message_of(
            ErrorCode::invalid_argument,
            [&] { device.weight({3, 1, 1, 1}, {.file = opened, .stored = DType::int32, .factors = {}}); }),
        "a file's int32 cannot be weights");
    wrong.equal(
        "message",
        message_of(
            ErrorCode::invalid_argument,
            [&] { device.weight({3, 1, 1, 1}, {.file = opened, .factors = {}, .dtype = DType::float16}); }),
        "a weight of a file cannot be float16");
    float values[2] = {};
    const auto refusal = [&](const std::string& why) {
      return file.path() + ": weights cannot be read again: " + why +
             ". A model's file must stay as it is while the model is in use; load the model again";
    };
    wrong.equal("message", message_of(ErrorCode::native, [&] { opened->read(8, 8, values); }),
                refusal("it has shrunk"));
    opened->check_unchanged();
    if (write(file.descriptor(), values, sizeof values) != sizeof values) return std::string("cannot write");
    wrong.equal("message", message_of(ErrorCode::native, [&] { opened->check_unchanged(); }),
                refusal("it has changed"));
    return wrong.text();
  });
}

}  // namespace glnet::test
