// Centring of one molecule, in one fixed order. For files that are not compiled per instruction
// set.
#pragma once

#include <cstdint>

namespace tito_fast {

// Subtracts the mean over the rows start .. end of an (n_atoms, 3) array from them.
template <typename T>
void center_rows(T* rows, std::int64_t start, std::int64_t end) {
  if (start == end) return;
  double sum[3] = {0.0, 0.0, 0.0};
  for (std::int64_t i = start; i < end; ++i) {
    for (int c = 0; c < 3; ++c) sum[c] += static_cast<double>(rows[3 * i + c]);
  }
  const double n = static_cast<double>(end - start);
  const double mean[3] = {sum[0] / n, sum[1] / n, sum[2] / n};
  for (std::int64_t i = start; i < end; ++i) {
    for (int c = 0; c < 3; ++c) {
      rows[3 * i + c] = static_cast<T>(static_cast<double>(rows[3 * i + c]) - mean[c]);
    }
  }
}

}  // namespace tito_fast
