// Runs one CUDA block on the host: each CUDA thread is a fiber, and sync() hands over to the next
// fiber, so that every thread reaches a barrier before any leaves it. A thread that leaves early
// while others wait, and a barrier that not all reach, are errors.
#pragma once

#include <ucontext.h>

#include <functional>
#include <limits>
#include <stdexcept>
#include <vector>

namespace tito_fast_test {

class HostBlock {
 public:
  explicit HostBlock(int n_threads)
      : n_threads_(n_threads),
        shared_(n_threads, std::numeric_limits<double>::quiet_NaN()),
        fibers_(n_threads) {
    for (Fiber& fiber : fibers_) fiber.stack.resize(kStackBytes);
  }

  int thread() const { return current_; }
  int n_threads() const { return n_threads_; }
  double* shared() const { return shared_.data(); }
  void sync() const {
    ++fibers_[current_].n_barriers;
    swapcontext(&fibers_[current_].context, &scheduler_);
  }

  void run(const std::function<void()>& body) {
    body_ = &body;
    active_ = this;
    for (Fiber& fiber : fibers_) {
      fiber.is_done = false;
      fiber.n_barriers = 0;
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.data();
      fiber.context.uc_stack.ss_size = fiber.stack.size();
      fiber.context.uc_link = &scheduler_;
      makecontext(&fiber.context, &HostBlock::enter, 0);
    }
    int n_done = 0;
    while (n_done < n_threads_) {
      for (current_ = 0; current_ < n_threads_; ++current_) {
        Fiber& fiber = fibers_[current_];
        if (fiber.is_done) throw std::logic_error("a barrier was not reached by every thread");
        swapcontext(&scheduler_, &fiber.context);
        if (fiber.is_done) ++n_done;
      }
      if (n_done != 0 && n_done != n_threads_) {
        throw std::logic_error("a barrier was not reached by every thread");
      }
    }
    for (const Fiber& fiber : fibers_) {
      if (fiber.n_barriers != fibers_[0].n_barriers) {
        throw std::logic_error("threads passed different numbers of barriers");
      }
    }
  }

 private:
  static constexpr std::size_t kStackBytes = 64 * 1024;
  struct Fiber {
    ucontext_t context{};
    std::vector<char> stack;
    bool is_done = false;
    int n_barriers = 0;
  };

  static void enter() {
    HostBlock* const block = active_;
    (*block->body_)();
    block->fibers_[block->current_].is_done = true;
  }

  static inline HostBlock* active_ = nullptr;
  int n_threads_;
  int current_ = 0;
  const std::function<void()>* body_ = nullptr;
  mutable std::vector<double> shared_;
  mutable std::vector<Fiber> fibers_;
  mutable ucontext_t scheduler_{};
};

// What the kernels take by value: a view of the block.
struct HostContext {
  const HostBlock* block;
  int thread() const { return block->thread(); }
  int n_threads() const { return block->n_threads(); }
  double* shared() const { return block->shared(); }
  void sync() const { block->sync(); }
};

}  // namespace tito_fast_test
