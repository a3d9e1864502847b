#include <utility>

#include "common/cuda_launch.h"

namespace tito_fast {

HostDevice host_device;

namespace {

constexpr std::size_t kStackBytes = 128 * 1024;
HostBlock* active = nullptr;

// Stacks are kept: memory that was used before costs no page faults.
std::vector<std::unique_ptr<char[]>> free_stacks;

std::unique_ptr<char[]> take_stack() {
  if (free_stacks.empty()) return std::unique_ptr<char[]>(new char[kStackBytes]);
  std::unique_ptr<char[]> stack = std::move(free_stacks.back());
  free_stacks.pop_back();
  return stack;
}

}  // namespace

HostBlock::HostBlock(int n_threads, std::int64_t n_blocks)
    : n_blocks_(n_blocks), threads_(n_threads), order_(n_threads), random_(host_device.seed + 1) {
  if (active != nullptr) throw std::logic_error("one launch at a time");
  active = this;
  for (int t = 0; t < n_threads; ++t) {
    threads_[t].stack = take_stack();
    order_[t] = t;
  }
}

HostBlock::~HostBlock() {
  active = nullptr;
  for (Thread& thread : threads_) free_stacks.push_back(std::move(thread.stack));
}

void HostBlock::enter() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &active->scheduler_stack_,
                                  &active->scheduler_stack_size_);
#endif
  active->body_(active->body_context_);
  active->wait(Place::end);
}

// Hands over to the scheduler; returns when this thread may go on.
void HostBlock::wait(Place place) {
  Thread& self = threads_[current_];
  self.place = place;
#if defined(__SANITIZE_ADDRESS__)
  void** const keep = place == Place::end ? nullptr : &self.fake_stack;
  __sanitizer_start_switch_fiber(keep, scheduler_stack_, scheduler_stack_size_);
#endif
  swapcontext(&self.context, &scheduler_);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(self.fake_stack, &scheduler_stack_, &scheduler_stack_size_);
#endif
}

void HostBlock::resume(int thread) {
  current_ = thread;
  Thread& next = threads_[thread];
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&scheduler_fake_stack_, next.stack.get(), kStackBytes);
#endif
  swapcontext(&scheduler_, &next.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(scheduler_fake_stack_, nullptr, nullptr);
#endif
}

// Lets warps go on whose lanes have all come to the same operation.
bool HostBlock::release_warps() {
  bool is_any = false;
  const int n_threads = static_cast<int>(threads_.size());
  for (int first = 0; first < n_threads; first += kLanesOfWarp) {
    const Place place = threads_[first].place;
    bool is_same = true;
    for (int t = first; t < first + kLanesOfWarp; ++t) {
      is_same = is_same && threads_[t].place == place;
    }
    if (place == Place::sync || place == Place::end) {
      if (is_same) continue;
    }
    if (!is_same) throw std::logic_error("lanes of a warp met at different operations");
    for (int t = first; t < first + kLanesOfWarp; ++t) threads_[t].place = Place::running;
    is_any = true;
  }
  return is_any;
}

bool HostBlock::release_block() {
  for (const Thread& thread : threads_) {
    if (thread.place != Place::sync) return false;
  }
  for (Thread& thread : threads_) thread.place = Place::running;
  return true;
}

void HostBlock::run_threads() {
  for (Thread& thread : threads_) {
    thread.place = Place::running;
    getcontext(&thread.context);
    thread.context.uc_stack.ss_sp = thread.stack.get();
    thread.context.uc_stack.ss_size = kStackBytes;
    thread.context.uc_link = nullptr;
    makecontext(&thread.context, &HostBlock::enter, 0);
  }
  while (true) {
    std::shuffle(order_.begin(), order_.end(), random_);
    for (const int t : order_) {
      if (threads_[t].place == Place::running) resume(t);
    }
    if (release_warps() || release_block()) continue;
    for (const Thread& thread : threads_) {
      if (thread.place != Place::end) {
        throw std::logic_error("a thread ended while others of its block waited for it");
      }
    }
    return;
  }
}

}  // namespace tito_fast
