#include "core/library.h"

#include <dlfcn.h>

#include <filesystem>
#include <map>
#include <mutex>

#include "core/error.h"

namespace glnet {
namespace {

/// The folder of the shared library, or the program, that this code is part of.
std::filesystem::path own_folder() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<const void*>(&load_backend), &info)) return ".";
  return std::filesystem::absolute(info.dli_fname).parent_path();
}

const Backend& load(const std::string& kind) {
  const auto path = own_folder() / ("libglnet_" + kind + ".so");
  if (!std::filesystem::exists(path)) {
    fail(ErrorCode::native, "this installation has no device '", kind, "': there is no ", path.string(),
         ". From a source checkout, build it with: node scripts/native.js build ", kind);
  }
  // Never closed: its kernels may still be queued, and its errors' code in use.
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* why = dlerror();
    fail(ErrorCode::native, "the device '", kind, "' is not available: ", path.string(),
         " does not load: ", why ? why : "for an unknown reason");
  }
  const auto open = reinterpret_cast<OpenLibrary>(dlsym(library, kOpenLibrary));
  if (!open) fail(ErrorCode::native, path.string(), " is not a library of glnet's: it lacks ", kOpenLibrary);
  const char* own = "";
  const Backend* backend = open(fingerprint().c_str(), &own);
  if (!backend || own != fingerprint()) {
    fail(ErrorCode::native, path.string(), " belongs to '", own, "', and this is '", fingerprint(),
         "'. Install both from one version of the package, or build both: node scripts/native.js build ",
         kind);
  }
  return *backend;
}

}  // namespace

const Backend& load_backend(const std::string& kind) {
  static std::mutex mutex;
  static std::map<std::string, const Backend*> loaded;
  const std::lock_guard lock(mutex);
  auto& backend = loaded[kind];
  if (!backend) backend = &load(kind);
  return *backend;
}

}  // namespace glnet
