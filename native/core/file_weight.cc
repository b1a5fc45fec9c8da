#include "core/file_weight.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "core/error.h"

namespace glnet {
namespace {

// Read at a time: small enough for any stack, and to stay in the cache until it has arrived.
constexpr int64_t kElements = int64_t{1} << 12;

template <class Stored, class Element>
void convert(const FileWeight& w, int64_t first, int64_t count, const Stored* from, Element* to) {
  const auto parts = static_cast<int64_t>(w.factors.size());
  if (!parts) {
    for (int64_t i = 0; i < count; ++i) to[i] = static_cast<Element>(static_cast<float>(from[i]));
    return;
  }
  const int64_t part = w.elements / parts;
  for (int64_t i = 0; i < count;) {
    const int64_t k = (first + i) / part, end = std::min(count, (k + 1) * part - first);
    const float factor = w.factors[static_cast<size_t>(k)];
    for (; i < end; ++i) to[i] = static_cast<Element>(static_cast<float>(from[i]) * factor);
  }
}

/// Brings some elements to memory of the engine.
template <class Stored, class Element>
void bring_part(const FileWeight& w, Engine& engine, int64_t first, Element* to) {
  const int64_t count = std::min(kElements, w.elements - first);
  Stored stored[kElements];
  Element elements[kElements];
  w.file->read(w.position + static_cast<uint64_t>(first) * sizeof(Stored),
               static_cast<size_t>(count) * sizeof(Stored), stored);
  convert(w, first, count, stored, elements);
  engine.upload(to + first, elements, static_cast<size_t>(count) * sizeof(Element));
}

template <class Stored, class Element>
void bring(const FileWeight& w, Engine& engine, void* to) {
  w.file->check_unchanged();
  std::exception_ptr error;
#pragma omp parallel for num_threads(engine.upload_threads()) schedule(dynamic, 1)
  for (int64_t first = 0; first < w.elements; first += kElements) {
    try {
      bring_part<Stored>(w, engine, first, static_cast<Element*>(to));
    } catch (...) {
#pragma omp critical
      error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

template <class Stored>
Source source_of(const FileWeight& w) {
  if (w.dtype == DType::float32)
    return [w](Engine& engine, void* to) { bring<Stored, float>(w, engine, to); };
  if (w.dtype == DType::bfloat16)
    return [w](Engine& engine, void* to) { bring<Stored, bfloat16>(w, engine, to); };
  fail(ErrorCode::invalid_argument, "a weight of a file cannot be ", name_of(w.dtype));
}

/// Nothing if the file is not open.
std::optional<WeightFile::State> state_of(int descriptor) {
  struct stat status;
  if (fstat(descriptor, &status)) return {};
  return WeightFile::State{status.st_dev, status.st_ino, static_cast<uint64_t>(status.st_size),
                           status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

}  // namespace

std::shared_ptr<const WeightFile> WeightFile::of(int descriptor) {
  static std::mutex& mutex = *new std::mutex;
  static auto& known = *new std::map<State, std::weak_ptr<const WeightFile>>;
  const std::optional<State> state = state_of(descriptor);
  if (!state)
    fail(ErrorCode::invalid_argument, "the file of the weights is not open: ", std::strerror(errno));
  const std::lock_guard lock(mutex);
  std::erase_if(known, [](const auto& entry) { return entry.second.expired(); });
  auto& entry = known[*state];
  auto file = entry.lock();
  if (!file) {
    const int copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
      fail(ErrorCode::native, "cannot open the file of the weights again: ", std::strerror(errno));
    file = std::make_shared<const WeightFile>(copy, *state);
    entry = file;
  }
  return file;
}

WeightFile::~WeightFile() {
  close(descriptor_);
}

void WeightFile::read(uint64_t position, size_t bytes, void* to) const {
  for (size_t done = 0; done < bytes;) {
    const ssize_t n = pread(descriptor_, static_cast<std::byte*>(to) + done, bytes - done,
                            static_cast<off_t>(position + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail_for(n < 0 ? std::strerror(errno) : "it has shrunk");
    done += static_cast<size_t>(n);
  }
}

void WeightFile::check_unchanged() const {
  if (state_of(descriptor_) != state_) fail_for("it has changed");
}

void WeightFile::fail_for(const std::string& why) const {
  char path[4096];
  const std::string link = "/proc/self/fd/" + std::to_string(descriptor_);
  const ssize_t length = readlink(link.c_str(), path, sizeof path);
  fail(ErrorCode::native, length > 0 ? std::string(path, static_cast<size_t>(length)) : "the model's file",
       ": weights cannot be read again: ", why,
       ". A model's file must stay as it is while the model is in use; load the model again");
}

Source FileWeight::source() const {
  const auto parts = static_cast<int64_t>(factors.size());
  check(!parts || elements % parts == 0, "a weight of ", elements, " elements has ", parts, " factors");
  switch (stored) {
    case DType::float32:
      return source_of<float>(*this);
    case DType::bfloat16:
      return source_of<bfloat16>(*this);
    case DType::float16:
      return source_of<float16>(*this);
    case DType::float64:
      return source_of<double>(*this);
    default:
      fail(ErrorCode::invalid_argument, "a file's ", name_of(stored), " cannot be weights");
  }
}

}  // namespace glnet
