// Checks and loops over the molecules of a batch.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace tito_fast {

// Throws unless batch_ptr[0 .. n_molecules] rises from 0 to n_atoms without falling.
inline void check_batch_ptr(const std::int64_t* batch_ptr, std::int64_t n_molecules,
                            std::int64_t n_atoms) {
  bool is_valid = batch_ptr[0] == 0 && batch_ptr[n_molecules] == n_atoms;
  for (std::int64_t m = 0; m < n_molecules; ++m) {
    is_valid = is_valid && batch_ptr[m] <= batch_ptr[m + 1];
  }
  if (!is_valid) {
    throw std::invalid_argument(
        "batch_ptr: expected non-decreasing starts from 0 to n_atoms = " + std::to_string(n_atoms) +
        ", got " + std::to_string(batch_ptr[0]) + " to " + std::to_string(batch_ptr[n_molecules]));
  }
}

// Threads worth starting for `work` elementary operations: none below a few tens of microseconds.
inline int threads_for(std::int64_t work, int n_threads) {
  constexpr std::int64_t kWorkPerThread = 1 << 16;
  const std::int64_t useful = 1 + work / kWorkPerThread;
  return static_cast<int>(useful < n_threads ? useful : (n_threads > 1 ? n_threads : 1));
}

}  // namespace tito_fast
