// The one error type of the native code. The addon turns it into a JavaScript error with the same code.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace glnet {

enum class ErrorCode { invalid_argument, out_of_memory, disposed, native };

class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

/// Throws an Error whose message is the arguments, streamed one after the other.
template <class... Parts>
[[noreturn]] void fail(ErrorCode code, const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw Error(code, text.str());
}

/// Throws ErrorCode::invalid_argument with the streamed message unless `ok`.
template <class... Parts>
void check(bool ok, const Parts&... parts) {
  if (!ok) fail(ErrorCode::invalid_argument, parts...);
}

}  // namespace glnet
