// What work would take of a device's memory, found without doing it.
//
// A plan is exact since nothing in it is an estimate: ops go through the same checks, and outputs, scratch
// memory, packed weights and plain values are taken and given back by the same calls in the same order, of a
// pool that is the same code on a copy of the book-keeping (see Pool::rehearsal). Nothing can be left
// behind: what is made has its memory of that pool, which is nobody else's, and what becomes of weights that
// were there before is noted here, not in them. Addresses are numbers alone; nothing is queued.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "core/tensor.h"

namespace glnet {

class Plan {
 public:
  explicit Plan(Pool& pool) : pool_(pool.rehearsal()) {}

  const std::shared_ptr<Pool>& pool() const { return pool_; }

  // Of storages that were made here, and of others, which stay as they are.

  /// Where the plain values would be; nullptr if nowhere.
  void* data(const Storage& storage) const;
  /// As Device::load.
  void load(Storage& storage);
  /// The copy in a layout, empty if there would be none.
  std::unique_ptr<Storage>& copy(Storage& storage, const std::string& layout);
  void drop_copies(Storage& storage);
  /// As Storage::unload.
  void unload(Storage& storage);
  /// As if the last tensor on a storage went that was there before.
  void drop(Storage& storage);

 private:
  /// What has become of a storage that was there before.
  struct Known {
    std::shared_ptr<Storage> storage;  ///< held, so that its address stays its own
    bool copies_gone = false;          ///< those that were there before
    bool values_gone = false;          ///< as well
    std::map<std::string, std::unique_ptr<Storage>> packed;
    std::unique_ptr<Storage> values;
  };
  Known& known(Storage& storage);
  void drop_values(Storage& storage);
  bool is_own(const Storage& storage) const { return storage.pool() == pool_; }

  std::shared_ptr<Pool> pool_;
  std::map<const Storage*, Known> known_;
};

}  // namespace glnet
