#include "core/plan.h"

namespace glnet {

Plan::Known& Plan::known(Storage& storage) {
  Known& known = known_[&storage];
  if (!known.storage) known.storage = storage.shared_from_this();
  return known;
}

void* Plan::data(const Storage& storage) const {
  const auto entry = known_.find(&storage);
  if (entry == known_.end()) return storage.data();
  const Known& known = entry->second;
  if (known.values) return known.values->data();
  return known.values_gone ? nullptr : storage.data();
}

void Plan::load(Storage& storage) {
  if (data(storage)) return;
  if (is_own(storage)) return storage.take("a weight");
  known(storage).values = std::make_unique<Storage>(pool_, storage.bytes(), "a weight");
}

std::unique_ptr<Storage>& Plan::copy(Storage& storage, const std::string& layout) {
  if (is_own(storage)) return storage.packed[layout];
  Known& known = this->known(storage);
  if (!known.copies_gone) {
    if (const auto entry = storage.packed.find(layout); entry != storage.packed.end() && entry->second)
      return entry->second;
  }
  return known.packed[layout];
}

void Plan::drop_copies(Storage& storage) {
  if (is_own(storage)) return storage.packed.clear();
  if (storage.packed.empty() && !known_.contains(&storage)) return;
  Known& known = this->known(storage);
  known.packed.clear();
  if (known.copies_gone) return;
  known.copies_gone = true;
  for (const auto& [layout, copy] : storage.packed) {
    if (copy) pool_->give(copy->data());
  }
}

void Plan::drop_values(Storage& storage) {
  Known& known = this->known(storage);
  known.values.reset();
  if (known.values_gone || !storage.data()) return;
  known.values_gone = true;
  pool_->give(storage.data());
}

void Plan::unload(Storage& storage) {
  if (is_own(storage)) return storage.unload();
  drop_copies(storage);
  if (storage.source()) drop_values(storage);
}

void Plan::drop(Storage& storage) {
  drop_copies(storage);
  if (!is_own(storage)) drop_values(storage);
}

}  // namespace glnet
