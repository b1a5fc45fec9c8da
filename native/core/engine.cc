#include "core/engine.h"

#include <omp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "core/error.h"

namespace glnet {
namespace {

class Host final : public Engine {
 public:
  explicit Host(int threads) : threads_(threads) {}

  // Straight from the system, so that what the pool gives back is really gone, and in huge pages where it
  // may.
  void* allocate(size_t bytes) override {
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) return nullptr;
    madvise(data, bytes, MADV_HUGEPAGE);
    return data;
  }
  void* reserve(size_t& bytes) override {
    bytes = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
    constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kFlags, -1, 0);
    if (data == MAP_FAILED) return nullptr;
    madvise(data, bytes, MADV_HUGEPAGE);
    // Nobody wants it all in a core dump.
    madvise(data, bytes, MADV_DONTDUMP);
    return data;
  }
  void discard(void* data, size_t bytes) override {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const auto begin = reinterpret_cast<uintptr_t>(data), first = (begin + page - 1) / page * page;
    if (first < begin + bytes) madvise(reinterpret_cast<void*>(first), begin + bytes - first, MADV_DONTNEED);
  }
  void release(void* data, size_t bytes) override { munmap(data, bytes); }
  void fill(void* to, int byte, size_t bytes) override { std::memset(to, byte, bytes); }
  int upload_threads() const override { return threads_; }
  void upload(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void download(void* to, const void* from, size_t bytes) override { std::memcpy(to, from, bytes); }

  std::string description() const override { return std::to_string(threads_) + " threads"; }
  void start() override { omp_set_num_threads(threads_); }

 private:
  int threads_;
};

}  // namespace

std::shared_ptr<Engine> open_host(const EngineOptions& options) {
  check(options.index == 0, "device ", options.index, " of this kind: there is one, 0");
  return std::make_shared<Host>(options.threads);
}

}  // namespace glnet
