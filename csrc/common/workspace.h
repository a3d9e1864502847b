// Memory for one call of a kernel: one aligned block, handed out in pieces that start on cache
// lines.
#pragma once

#include <cstdint>

#include "common/memory.h"
#include "common/simd.h"

namespace tito_fast {
namespace TITO_ISA {

// First pass: counts only. Second pass: gives addresses in the same order.
class Workspace {
 public:
  Workspace() = default;
  explicit Workspace(std::int64_t n_bytes)
      : owned_(static_cast<char*>(borrow_memory(n_bytes))), base_(owned_) {}
  ~Workspace() { return_memory(owned_); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  bool is_missing() const { return base_ == nullptr; }
  std::int64_t used() const { return used_; }
  // What starts `offset` bytes into this memory, a multiple of a cache line; must not outlive it.
  Workspace part(std::int64_t offset) const { return Workspace(base_ + offset, Borrowed()); }
  void rewind(std::int64_t used) { used_ = used; }

  template <typename T>
  T* take(std::int64_t n) {
    T* const result = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += round_up(n * static_cast<std::int64_t>(sizeof(T)));
    return result;
  }

 private:
  struct Borrowed {};
  Workspace(char* base, Borrowed /*tag*/) : base_(base) {}

  static constexpr std::int64_t kAlignment = 64;
  static constexpr std::int64_t round_up(std::int64_t n) {
    return (n + kAlignment - 1) / kAlignment * kAlignment;
  }

  char* owned_ = nullptr;
  char* base_ = nullptr;
  std::int64_t used_ = 0;
};

}  // namespace TITO_ISA
}  // namespace tito_fast
