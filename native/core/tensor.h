// Tensors: memory of a device's pool with a shape and an element type.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "core/dtype.h"
#include "core/pool.h"
#include "core/shape.h"

namespace glnet {

/// A block of a pool, given back when the last tensor on it goes. Weights carry copies in the layouts that a
/// backend's kernels want; those live and die with the block.
class Storage : public std::enable_shared_from_this<Storage> {
 public:
  Storage(std::shared_ptr<Pool> pool, size_t bytes, const char* purpose)
      : pool_(std::move(pool)), data_(pool_->take(bytes, purpose)) {}
  ~Storage() { pool_->give(data_); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  void* data() const { return data_; }
  const std::shared_ptr<Pool>& pool() const { return pool_; }

  std::map<std::string, std::unique_ptr<Storage>> packed;

 private:
  std::shared_ptr<Pool> pool_;
  void* data_;
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

  View view() const {
    return {static_cast<std::byte*>(storage->data()) + offset, shape, dtype, storage.get()};
  }
};

}  // namespace glnet
