// Tensors: memory of a device's pool with a shape and an element type.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "core/dtype.h"
#include "core/file_weight.h"
#include "core/pool.h"
#include "core/shape.h"

namespace glnet {

/// A block of a pool, given back when the last tensor on it goes. Weights carry copies in the layouts that a
/// backend's kernels want; those live and die with the block.
///
/// With a source it has no memory until something wants its plain values. A weight whose kernels read packed
/// copies only never does.
class Storage : public std::enable_shared_from_this<Storage> {
 public:
  Storage(std::shared_ptr<Pool> pool, size_t bytes, const char* purpose,
          Lifetime lifetime = Lifetime::passing)
      : pool_(std::move(pool)), bytes_(bytes), data_(pool_->take(bytes, purpose, lifetime)) {}
  Storage(std::shared_ptr<Pool> pool, size_t bytes, Source source)
      : pool_(std::move(pool)), bytes_(bytes), source_(std::move(source)) {}
  ~Storage() {
    if (data_) pool_->give(data_);
  }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }  ///< nullptr: only the source has the values
  size_t bytes() const { return bytes_; }
  const Source& source() const { return source_; }
  const std::shared_ptr<Pool>& pool() const { return pool_; }

  /// Takes memory for the values of the source.
  void take(const char* purpose) { data_ = pool_->take(bytes_, purpose); }
  /// Gives back all memory that can be filled again.
  void unload() {
    packed.clear();
    if (source_ && data_) pool_->give(std::exchange(data_, nullptr));
  }

  std::map<std::string, std::unique_ptr<Storage>> packed;

 private:
  std::shared_ptr<Pool> pool_;
  size_t bytes_;
  Source source_;
  void* data_ = nullptr;
};

/// What a kernel sees of a tensor. Does not own; `storage` is for the submitting thread only.
struct View {
  void* data = nullptr;
  Shape shape;
  DType dtype = DType::float32;
  Storage* storage = nullptr;

  int64_t size() const { return element_count(shape); }
  size_t bytes() const { return static_cast<size_t>(size()) * size_of(dtype); }
  int64_t dim(size_t i) const { return shape[i]; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

struct Tensor {
  std::shared_ptr<Storage> storage;
  Shape shape;
  DType dtype = DType::float32;
  size_t offset = 0;  ///< in bytes; other than 0 where it is a part of another tensor

  /// Without data where only the storage's source has the values.
  View view() const {
    auto* data = static_cast<std::byte*>(storage->data());
    return {data ? data + offset : nullptr, shape, dtype, storage.get()};
  }
};

}  // namespace glnet
