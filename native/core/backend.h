// What a device provides: memory, and a kernel for each op.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/engine.h"
#include "ops/ops.h"

namespace glnet {

/// What a kernel is given beside its op.
struct Context {
  int threads = 1;
  void* workspace = nullptr;
  void* stream = nullptr;           ///< the engine's queue, where it has one
  std::vector<const void*> packed;  ///< in the order in which `Prepare::pack` was called
};

/// What a kernel may ask for before its op is queued. Lives on the submitting thread.
class Prepare {
 public:
  virtual ~Prepare() = default;
  virtual int threads() const = 0;
  /// Scratch memory for the kernel, valid while it runs.
  virtual void workspace(size_t bytes) = 0;
  /// Makes a copy of a weight in another layout.
  using Convert = std::function<void(const Context&, const void* source, void* destination)>;
  /// A copy of `weight`, made by `convert` on the stream at first use and kept with the weight under
  /// `layout`, a name that says all on which the copy depends. Where the device does not hold the plain
  /// values of `weight`, its `data` stays nullptr when the kernel runs.
  virtual void pack(const View& weight, const std::string& layout, size_t bytes, Convert convert) = 0;
};

template <class Op>
struct Kernel {
  void (*run)(const Op&, const Context&) = nullptr;
  void (*prepare)(const Op&, Prepare&) = nullptr;
};

struct Backend {
  const char* name = "";
  /// Throws ErrorCode::native with what can be done about it if there is no such device.
  std::shared_ptr<Engine> (*open)(const EngineOptions& options) = nullptr;
  /// How many devices there are of this kind; throws as `open`.
  int (*count)() = nullptr;
#define GLNET_MEMBER(Type, member) Kernel<Type> member;
  GLNET_OPS(GLNET_MEMBER)
#undef GLNET_MEMBER
};

/// The row of the table that belongs to an op.
template <class Op>
const Kernel<Op>& kernel_of(const Backend& backend);
#define GLNET_ROW(Type, member)                                        \
  template <>                                                          \
  inline const Kernel<Type>& kernel_of<Type>(const Backend& backend) { \
    return backend.member;                                             \
  }
GLNET_OPS(GLNET_ROW)
#undef GLNET_ROW

/// The plain version of every op, in double: what every other version is compared with.
const Backend& reference_backend();
/// Vectorised code.
const Backend& cpu_backend();

}  // namespace glnet
