// What launching a kernel takes, whatever runs it.
#pragma once

#include <cstdint>
#include <string>

#include "common/host_device.h"

namespace tito_fast {

constexpr int kLanesOfWarp = 32;

// A device's number and the address of one of its streams (0: the default one).
struct Stream {
  int device;
  std::uintptr_t address;
};

// Shared memory of a kernel that needs none.
struct NoShared {};

template <typename Kernel>
std::string launch_problem(const Kernel& kernel, std::int64_t n_blocks, const std::string& reason) {
  return std::string(Kernel::kName) + ": expected a launch of " + std::to_string(n_blocks) +
         " blocks of " + std::to_string(Kernel::kThreads) + " threads, got an error (" +
         kernel.sizes() + "): " + reason;
}

// An entry of batch_ptr, which the host does not read, as a row of an array of n_atoms.
TITO_HOST_DEVICE std::int64_t clamped_row(std::int64_t row, std::int64_t n_atoms) {
  return row < 0 ? 0 : (row < n_atoms ? row : n_atoms);
}

TITO_HOST_DEVICE int n_set_bits(unsigned bits) {
#ifdef __CUDA_ARCH__
  return __popc(static_cast<int>(bits));
#else
  return __builtin_popcount(bits);
#endif
}

// Place of the lowest set bit; bits is not 0.
TITO_HOST_DEVICE int lowest_set_bit(unsigned bits) {
#ifdef __CUDA_ARCH__
  return __ffs(static_cast<int>(bits)) - 1;
#else
  return __builtin_ctz(bits);
#endif
}

}  // namespace tito_fast
