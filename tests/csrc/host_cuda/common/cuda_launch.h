// Stands in for csrc/common/cuda_launch.h when the sources *.cu are compiled as C++ for tests: runs
// kernels on the host, block by block in a random order, each CUDA thread of a block a fiber.
//
// A thread runs until it must wait: at sync() for its block, at an operation of its warp for the
// other lanes. Which thread runs next is random, too, and shared memory starts as garbage, so that
// a missing barrier shows. Threads of a warp that meet at different operations, and threads that
// end while others wait for them, are errors. So are more than one launch at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "common/host_device.h"
#include "common/launch.h"
#include "fiber.h"

namespace tito_fast {

// Settings and records of the tests.
struct HostDevice {
  std::uint64_t seed = 0;        // of the order of blocks and threads
  std::string failure;           // of the next launch; empty: none
  std::vector<std::string> log;  // names of what was launched
};
extern HostDevice host_device;

class HostBlock {
 public:
  // Where a thread waits; lanes of a warp must agree.
  enum class Place : char {
    running,
    ballot,
    shuffle,
    shuffle_xor,
    shuffle_up,
    sync_warp,
    sync,
    end
  };

  HostBlock(int n_threads, std::int64_t n_blocks);
  ~HostBlock();
  HostBlock(const HostBlock&) = delete;
  HostBlock& operator=(const HostBlock&) = delete;

  template <typename Body>
  void run(std::int64_t index, const Body& body) {
    index_ = index;
    body_ = [](const void* context) { (*static_cast<const Body*>(context))(); };
    body_context_ = &body;
    run_threads();
  }

  std::int64_t index() const { return index_; }
  std::int64_t n_blocks() const { return n_blocks_; }
  int thread() const { return current_; }

  void wait(Place place);

  // Gives `value` to the warp and waits for its lanes; get(lane) then reads what a lane gave. A
  // lane is at most one exchange ahead of the others, so two sets of values are enough.
  template <typename T>
  void exchange(T value, Place place) {
    static_assert(sizeof(T) <= sizeof(std::uint64_t), "a register or two");
    Thread& self = threads_[current_];
    self.n_exchanges ^= 1;
    std::memcpy(&self.given[self.n_exchanges], &value, sizeof(T));
    wait(place);
  }
  template <typename T>
  T get(int lane) const {
    const Thread& self = threads_[current_];
    const Thread& other = threads_[current_ / kLanesOfWarp * kLanesOfWarp + lane];
    T value;
    std::memcpy(&value, &other.given[self.n_exchanges], sizeof(T));
    return value;
  }

 private:
  struct Thread {
    Fiber fiber;
    Place place = Place::end;
    int n_exchanges = 0;
    std::uint64_t given[2] = {0, 0};
  };

  static void enter();
  void run_threads();
  void shuffle_ready();
  void release(int thread);
  void release_warps();
  void release_block();

  std::int64_t index_ = 0;
  std::int64_t n_blocks_;
  int current_ = 0;
  void (*body_)(const void*) = nullptr;
  const void* body_context_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<int> ready_;  // threads that may go on
  std::uint64_t random_;
  Fiber scheduler_;
};

// The view of a block that a kernel gets; as CudaBlock.
class HostBlockView {
 public:
  explicit HostBlockView(HostBlock* block) : block_(block) {}
  std::int64_t index() const { return block_->index(); }
  std::int64_t n_blocks() const { return block_->n_blocks(); }
  int thread() const { return block_->thread(); }
  int lane() const { return thread() % kLanesOfWarp; }
  int warp() const { return thread() / kLanesOfWarp; }

  void sync() const { block_->wait(HostBlock::Place::sync); }
  void sync_warp() const { block_->wait(HostBlock::Place::sync_warp); }
  void fence() const {}

  unsigned ballot(bool bit) const {
    block_->exchange(bit, HostBlock::Place::ballot);
    unsigned bits = 0;
    for (int lane = 0; lane < kLanesOfWarp; ++lane) {
      bits |= (block_->get<bool>(lane) ? 1U : 0U) << lane;
    }
    return bits;
  }
  template <typename T>
  T shuffle(T value, int source_lane) const {
    block_->exchange(value, HostBlock::Place::shuffle);
    return block_->get<T>(source_lane % kLanesOfWarp);
  }
  template <typename T>
  T shuffle_xor(T value, int mask) const {
    block_->exchange(value, HostBlock::Place::shuffle_xor);
    return block_->get<T>(lane() ^ mask);
  }
  template <typename T>
  T shuffle_up(T value, int delta) const {
    block_->exchange(value, HostBlock::Place::shuffle_up);
    return lane() < delta ? value : block_->get<T>(lane() - delta);
  }

  int atomic_add(int* address, int value) const {
    const int before = *address;
    *address += value;
    return before;
  }
  int atomic_max(int* address, int value) const {
    const int before = *address;
    *address = std::max(before, value);
    return before;
  }
  int atomic_or(int* address, int value) const {
    const int before = *address;
    *address |= value;
    return before;
  }

 private:
  HostBlock* block_;
};

template <typename Kernel>
void launch(const Kernel& kernel, std::int64_t n_blocks, const Stream&) {
  static_assert(Kernel::kThreads % kLanesOfWarp == 0, "a block is made of whole warps");
  if (n_blocks == 0) return;
  if (!host_device.failure.empty()) {
    const std::string reason = std::exchange(host_device.failure, "");
    throw std::runtime_error(launch_problem(kernel, n_blocks, reason));
  }
  host_device.log.push_back(Kernel::kName);
  std::vector<std::int64_t> order(static_cast<std::size_t>(n_blocks));
  for (std::size_t b = 0; b < order.size(); ++b) order[b] = static_cast<std::int64_t>(b);
  std::shuffle(order.begin(), order.end(), std::minstd_rand(host_device.seed + 1));
  HostBlock block(Kernel::kThreads, n_blocks);
  // On the heap, where the sanitizer sees what is read or written beside it.
  const auto shared = std::make_unique<typename Kernel::Shared>();
  for (const std::int64_t index : order) {
    std::memset(static_cast<void*>(shared.get()), 0xFF, sizeof(*shared));
    block.run(index, [&] { kernel(HostBlockView(&block), *shared); });
  }
}

inline void set_to_zero(void* address, std::size_t n_bytes, const Stream&) {
  std::memset(address, 0, n_bytes);
}

}  // namespace tito_fast
