#include "emulator/fiber.h"

#include <sys/mman.h>

#include <cstdint>

#include "core/error.h"

#if !defined(__x86_64__) || defined(GLNET_EMULATOR_UCONTEXT)
#define GLNET_UCONTEXT
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef GLNET_UCONTEXT
// Saves what a call must preserve on the stack, and goes on where another stack was left. `swapcontext` does
// the same and sets the signal mask, two system calls that make a barrier eight times as slow.
extern "C" void glnet_fiber_switch(void** from, void* to);
asm(R"(
.text
.type glnet_fiber_switch, @function
glnet_fiber_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size glnet_fiber_switch, .-glnet_fiber_switch
)");
#endif

namespace glnet::emulator {
namespace {

constexpr size_t kPage = 4096;

thread_local Fiber* starting = nullptr;

}  // namespace

#ifdef __SANITIZE_ADDRESS__
const size_t Fiber::kStackBytes = 256 << 10;
#else
const size_t Fiber::kStackBytes = 64 << 10;
#endif

struct Fiber::Context {
#ifdef GLNET_UCONTEXT
  ucontext_t inside, outside;
#else
  void* inside = nullptr;
  void* outside = nullptr;
#endif
  // AddressSanitizer wants to know on which stack the program is.
  void* fake_inside = nullptr;
  void* fake_outside = nullptr;
  const void* outside_bottom = nullptr;
  size_t outside_bytes = 0;

  void announce([[maybe_unused]] void** save, [[maybe_unused]] const void* bottom,
                [[maybe_unused]] size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(save, bottom, bytes);
#endif
  }
  void arrived_inside() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_inside, &outside_bottom, &outside_bytes);
#endif
  }
  void arrived_outside() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake_outside, nullptr, nullptr);
#endif
  }
};

Fiber::Fiber(std::byte* stack) : stack_(stack), context_(std::make_unique<Context>()) {}
Fiber::~Fiber() = default;

void Fiber::start() {
  Fiber* self = starting;
  self->context_->arrived_inside();
  self->entry_(self->argument_);
}

void Fiber::prepare(Entry entry, void* argument) {
  entry_ = entry;
  argument_ = argument;
  context_->fake_inside = nullptr;
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(stack_, kStackBytes);
#endif
#ifdef GLNET_UCONTEXT
  getcontext(&context_->inside);
  context_->inside.uc_stack.ss_sp = stack_;
  context_->inside.uc_stack.ss_size = kStackBytes;
  context_->inside.uc_link = nullptr;
  makecontext(&context_->inside, &Fiber::start, 0);
#else
  // As if `start` had been called from nowhere: six registers, where to return to, and no caller.
  auto** top = reinterpret_cast<void**>(stack_ + kStackBytes);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&Fiber::start);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  context_->inside = top;
#endif
}

void Fiber::enter() {
  starting = this;
  Context& c = *context_;
  c.announce(&c.fake_outside, stack_, kStackBytes);
#ifdef GLNET_UCONTEXT
  swapcontext(&c.outside, &c.inside);
#else
  glnet_fiber_switch(&c.outside, c.inside);
#endif
  c.arrived_outside();
}

void Fiber::leave() {
  Context& c = *context_;
  c.announce(&c.fake_inside, c.outside_bottom, c.outside_bytes);
#ifdef GLNET_UCONTEXT
  swapcontext(&c.inside, &c.outside);
#else
  glnet_fiber_switch(&c.inside, c.outside);
#endif
  c.arrived_inside();
}

Stacks::Stacks(size_t count) : memory_(nullptr), bytes_(count * (Fiber::kStackBytes + kPage)) {
  void* memory =
      mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    fail(ErrorCode::out_of_memory, "emulator: no address space for ", count, " stacks of ",
         Fiber::kStackBytes, " bytes");
  }
  memory_ = static_cast<std::byte*>(memory);
  for (size_t i = 0; i < count; ++i) mprotect(at(i) - kPage, kPage, PROT_NONE);
}

Stacks::~Stacks() {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(memory_, bytes_);
#endif
  munmap(memory_, bytes_);
}

std::byte* Stacks::at(size_t i) const {
  return memory_ + i * (Fiber::kStackBytes + kPage) + kPage;
}

}  // namespace glnet::emulator
