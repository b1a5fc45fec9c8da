#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "core/library.h"

namespace glnet {
namespace {

class Hash {
 public:
  void add(const char* text) {
    for (; *text; ++text) add(static_cast<size_t>(*text));
  }
  void add(size_t number) {
    // FNV-1a
    for (int i = 0; i < 8; ++i) value_ = (value_ ^ (number >> (8 * i) & 0xFF)) * 0x100000001b3;
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0xcbf29ce484222325;
};

template <class T>
void add_fields(Hash& hash, const T& object) {
  T::fields(object, [&](const char* name, const auto& member) {
    using Member = std::remove_cvref_t<decltype(member)>;
    hash.add(name);
    hash.add(
        static_cast<size_t>(reinterpret_cast<const char*>(&member) - reinterpret_cast<const char*>(&object)));
    hash.add(sizeof member);
    if constexpr (detail::is_vector<Member>) {
      if constexpr (detail::Structured<typename Member::value_type>)
        add_fields(hash, typename Member::value_type{});
    } else if constexpr (detail::Structured<Member>) {
      add_fields(hash, member);
    }
  });
}

}  // namespace

const std::string& fingerprint() {
  static const std::string text = [] {
    Hash hash;
#define GLNET_ADD(Type, member) \
  hash.add(Type::kName);        \
  hash.add(sizeof(Type));       \
  add_fields(hash, Type{});     \
  hash.add(offsetof(Backend, member));
    GLNET_OPS(GLNET_ADD)
#undef GLNET_ADD
    for (const size_t size :
         {sizeof(Backend), sizeof(Context), sizeof(View), sizeof(Error), sizeof(std::string)}) {
      hash.add(size);
    }
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash.value()));
    return std::string("glnet " GLNET_VERSION ", ops ") + digits;
  }();
  return text;
}

}  // namespace glnet
