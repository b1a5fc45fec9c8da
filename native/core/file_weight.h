// Weights that stay in their file until they are wanted.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "core/engine.h"

namespace glnet {

/// Brings the values of a tensor to memory of the engine; on the stream's thread, and as often as it is
/// asked.
using Source = std::function<void(Engine& engine, void* to)>;

/// An open file, shared by the weights in it.
class WeightFile {
 public:
  /// What tells one file, and one state of it, from others.
  struct State {
    uint64_t device, inode, size;
    int64_t seconds, nanoseconds;  ///< of its last change
    auto operator<=>(const State&) const = default;
  };

  /// The file of a descriptor, which may be closed afterwards. On the submitting thread.
  static std::shared_ptr<const WeightFile> of(int descriptor);
  /// Takes the descriptor.
  WeightFile(int descriptor, const State& state) : descriptor_(descriptor), state_(state) {}
  ~WeightFile();
  WeightFile(const WeightFile&) = delete;
  WeightFile& operator=(const WeightFile&) = delete;

  /// Throws ErrorCode::native if the file is not as it was: weights of two models would be mixed.
  void check_unchanged() const;
  /// Throws ErrorCode::native if the bytes are not there.
  void read(uint64_t position, size_t bytes, void* to) const;

 private:
  [[noreturn]] void fail_for(const std::string& why) const;

  int descriptor_;
  State state_;
};

/// `elements` of type `stored` at a position of a file, in equal parts times one of the factors each, if
/// there are any, as `dtype`: float32 or bfloat16.
struct FileWeight {
  std::shared_ptr<const WeightFile> file;
  uint64_t position = 0;
  int64_t elements = 0;
  DType stored = DType::float32;
  std::vector<float> factors;
  DType dtype = DType::float32;

  /// Throws ErrorCode::invalid_argument for types or a number of factors that it does not take.
  Source source() const;
};

}  // namespace glnet
