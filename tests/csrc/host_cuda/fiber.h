// A flow of control with a stack of its own, which runs until it hands over to another.
#pragma once

#include <cstddef>
#include <memory>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TITO_ADDRESS_SANITIZER
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define TITO_ADDRESS_SANITIZER
#endif

// The system's switch makes a system call, and the sanitizer's version of it clears memory: both
// cost ten times as much.
#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__)) && \
    !defined(TITO_SYSTEM_SWITCH)
#define TITO_OWN_SWITCH
#else
#include <ucontext.h>
#endif

namespace tito_fast {

class Fiber {
 public:
  // The flow that calls it, or one to be prepared.
  Fiber() = default;
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next switch to it calls `body`, which must not return: its last act is a switch.
  void prepare(void (*body)());

  // Goes on with `next`; returns when another one switches to this. After the last one `next` may
  // only be prepared anew.
  void switch_to(Fiber& next, bool is_last = false);

 private:
  static void enter();
  void arrive();

  void (*body_)() = nullptr;
  std::unique_ptr<char[]> stack_;
#if defined(TITO_OWN_SWITCH)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_{};
#endif
#if defined(TITO_ADDRESS_SANITIZER)
  void* fake_stack_ = nullptr;
  const void* bottom_ = nullptr;
  std::size_t size_ = 0;
#endif
};

}  // namespace tito_fast
