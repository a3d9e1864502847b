// Counter-based standard normals, row by row.
#pragma once

#include <cstdint>

namespace tito_fast {

// Words 1 and 3 of every counter of one call.
struct PhiloxStep {
  std::uint32_t rollout_step;
  std::uint32_t stream_evaluation;
};

// Row r writes counts[r] values after those of the rows before it; n_total is the sum of counts.
// Counter of block b in row r: (b, rollout_step, replicas[r], stream_evaluation); key keys[r].
void philox_normal_fwd_cpu(const std::int64_t* keys, const std::int64_t* replicas,
                           const std::int64_t* counts, float* normals, std::int64_t n_rows,
                           std::int64_t n_total, PhiloxStep step, int n_threads);

// normals[0 .. end - first) = elements first .. end of one row, 0 <= first, end <= 2^34. Uses the
// active instruction set (common/isa.h) and the calling thread alone; every set gives the same
// bits.
void philox_normal_row(std::uint64_t key, std::uint32_t replica, PhiloxStep step,
                       std::int64_t first, std::int64_t end, float* normals);

// normals (n_blocks, 4) from words (n_blocks, 4): what philox_normal_row makes of a cipher's
// output.
void box_muller_blocks(const std::uint32_t* words, float* normals, std::int64_t n_blocks);

// words (n, 4) from counters (n, 4) and keys (n, 2); every element holds 32 bits.
void philox_integers_cpu(const std::int64_t* counters, const std::int64_t* keys,
                         std::int64_t* words, std::int64_t n);

}  // namespace tito_fast
