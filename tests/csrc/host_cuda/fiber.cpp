#include "fiber.h"

#include <cstdint>
#include <utility>
#include <vector>

#if defined(TITO_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Puts on the stack what a function must keep, keeps the stack's address in *from, goes to `to` and
// takes from there what was put. The units of floating point keep their modes: no kernel sets them.
#if defined(TITO_OWN_SWITCH)
extern "C" void tito_switch_stack(void** from, void* to) __attribute__((visibility("hidden")));
#if defined(__x86_64__)
asm(R"(
.pushsection .text
.globl tito_switch_stack
.hidden tito_switch_stack
.type tito_switch_stack, @function
tito_switch_stack:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size tito_switch_stack, . - tito_switch_stack
.popsection
)");
#else
asm(R"(
.pushsection .text
.globl tito_switch_stack
.hidden tito_switch_stack
.type tito_switch_stack, %function
tito_switch_stack:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size tito_switch_stack, . - tito_switch_stack
.popsection
)");
#endif
#endif

namespace tito_fast {
namespace {

constexpr std::size_t kStackBytes = 128 * 1024;

// Who switched last, and to whom.
Fiber* before = nullptr;
Fiber* running = nullptr;

// Stacks are kept: memory that was used before costs no page faults.
std::vector<std::unique_ptr<char[]>> free_stacks;

std::unique_ptr<char[]> take_stack() {
  if (free_stacks.empty()) return std::unique_ptr<char[]>(new char[kStackBytes]);
  std::unique_ptr<char[]> stack = std::move(free_stacks.back());
  free_stacks.pop_back();
  return stack;
}

}  // namespace

Fiber::~Fiber() {
  if (stack_) free_stacks.push_back(std::move(stack_));
}

void Fiber::prepare(void (*body)()) {
  body_ = body;
  if (!stack_) stack_ = take_stack();
#if defined(TITO_ADDRESS_SANITIZER)
  // Calls that never returned have left marks.
  __asan_unpoison_memory_region(stack_.get(), kStackBytes);
  fake_stack_ = nullptr;
  bottom_ = stack_.get();
  size_ = kStackBytes;
#endif
#if defined(TITO_OWN_SWITCH)
  const auto end = reinterpret_cast<std::uintptr_t>(stack_.get()) + kStackBytes;
  void** const top = reinterpret_cast<void**>(end & ~std::uintptr_t{15});
#if defined(__x86_64__)
  // Six registers, where to go, and the address to which that would return.
  constexpr int kSaved = 8, kReturn = 6;
#else
  constexpr int kSaved = 20, kReturn = 11;
#endif
  stack_pointer_ = top - kSaved;
  for (int slot = 1; slot <= kSaved; ++slot) top[-slot] = nullptr;
  static_cast<void**>(stack_pointer_)[kReturn] = reinterpret_cast<void*>(&Fiber::enter);
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_.get();
  context_.uc_stack.ss_size = kStackBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::enter, 0);
#endif
}

void Fiber::switch_to(Fiber& next, bool is_last) {
  before = this;
  running = &next;
#if defined(TITO_ADDRESS_SANITIZER)
  __sanitizer_start_switch_fiber(is_last ? nullptr : &fake_stack_, next.bottom_, next.size_);
#else
  static_cast<void>(is_last);
#endif
#if defined(TITO_OWN_SWITCH)
  tito_switch_stack(&stack_pointer_, next.stack_pointer_);
#else
  swapcontext(&context_, &next.context_);
#endif
  arrive();
}

void Fiber::enter() {
  running->arrive();
  running->body_();
}

// Where the stack is that was left, is known now.
void Fiber::arrive() {
#if defined(TITO_ADDRESS_SANITIZER)
  __sanitizer_finish_switch_fiber(fake_stack_, &before->bottom_, &before->size_);
#endif
}

}  // namespace tito_fast
