// Backends that live in shared libraries of their own, loaded when a device of theirs is first asked for: a
// machine that lacks what one needs lacks that device and nothing else.
#pragma once

#include <string>

#include "core/backend.h"

namespace glnet {

/// The version, and a digest of the headers of core/ and ops/ that this code was compiled with. Two pieces of
/// code that agree on it can call each other.
const std::string& fingerprint();

/// What such a library exports under this name. Returns nullptr if `wanted` is not its own fingerprint, which
/// it tells in any case.
using OpenLibrary = const Backend* (*)(const char* wanted, const char** own);
inline constexpr const char* kOpenLibrary = "glnet_backend";

/// The backend in libglnet_<kind>.so in the folder of the code that calls; loaded once. Throws
/// ErrorCode::native with what can be done about it.
const Backend& load_backend(const std::string& kind);

}  // namespace glnet
