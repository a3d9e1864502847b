#include <utility>

#include "common/cuda_launch.h"

namespace tito_fast {

HostDevice host_device;

namespace {

HostBlock* active = nullptr;

}  // namespace

HostBlock::HostBlock(int n_threads, std::int64_t n_blocks)
    : n_blocks_(n_blocks), threads_(n_threads), random_(host_device.seed) {
  if (active != nullptr) throw std::logic_error("one launch at a time");
  active = this;
  ready_.reserve(n_threads);
}

HostBlock::~HostBlock() { active = nullptr; }

void HostBlock::enter() {
  active->body_(active->body_context_);
  active->wait(Place::end);
}

// Hands over to the scheduler; returns when this thread may go on.
void HostBlock::wait(Place place) {
  Thread& self = threads_[current_];
  self.place = place;
  self.fiber.switch_to(scheduler_, place == Place::end);
}

// As std::shuffle, at a tenth of its cost, which would be half of all.
void HostBlock::shuffle_ready() {
  for (std::uint64_t left = ready_.size(); left > 1; --left) {
    random_ = random_ * 6364136223846793005U + 1442695040888963407U;
    std::swap(ready_[left - 1], ready_[((random_ >> 32) * left) >> 32]);
  }
}

void HostBlock::release(int thread) {
  threads_[thread].place = Place::running;
  ready_.push_back(thread);
}

// Lets warps go on whose lanes have all come to the same operation.
void HostBlock::release_warps() {
  const int n_threads = static_cast<int>(threads_.size());
  for (int first = 0; first < n_threads; first += kLanesOfWarp) {
    const Place place = threads_[first].place;
    bool is_same = true;
    for (int t = first; t < first + kLanesOfWarp; ++t) {
      is_same = is_same && threads_[t].place == place;
    }
    if (!is_same) throw std::logic_error("lanes of a warp met at different operations");
    if (place == Place::sync || place == Place::end) continue;
    for (int t = first; t < first + kLanesOfWarp; ++t) release(t);
  }
}

// Lets the block go on if all its threads wait for it.
void HostBlock::release_block() {
  for (const Thread& thread : threads_) {
    if (thread.place != Place::sync) return;
  }
  for (std::size_t t = 0; t < threads_.size(); ++t) release(static_cast<int>(t));
}

void HostBlock::run_threads() {
  ready_.clear();
  for (std::size_t t = 0; t < threads_.size(); ++t) {
    threads_[t].fiber.prepare(&HostBlock::enter);
    release(static_cast<int>(t));
  }
  while (!ready_.empty()) {
    shuffle_ready();
    for (const int t : ready_) {
      current_ = t;
      scheduler_.switch_to(threads_[t].fiber);
    }
    ready_.clear();
    release_warps();
    if (ready_.empty()) release_block();
  }
  for (const Thread& thread : threads_) {
    if (thread.place != Place::end) {
      throw std::logic_error("a thread ended while others of its block waited for it");
    }
  }
}

}  // namespace tito_fast
