#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/batch.h"
#include "common/isa.h"
#include "philox_normal/philox.h"
#include "philox_normal/philox_normal.h"

namespace tito_fast {

#define TITO_DECLARE(isa)                                                                    \
  namespace isa {                                                                            \
  void philox_normal_row(std::uint64_t key, std::uint32_t replica, PhiloxStep step,          \
                         std::int64_t first, std::int64_t end, float* normals);              \
  void box_muller_blocks(const std::uint32_t* words, float* normals, std::int64_t n_blocks); \
  }
TITO_FOR_EACH_ISA(TITO_DECLARE)
#undef TITO_DECLARE

void philox_normal_row(std::uint64_t key, std::uint32_t replica, PhiloxStep step,
                       std::int64_t first, std::int64_t end, float* normals) {
  TITO_DISPATCH(philox_normal_row(key, replica, step, first, end, normals));
}

void box_muller_blocks(const std::uint32_t* words, float* normals, std::int64_t n_blocks) {
  TITO_DISPATCH(box_muller_blocks(words, normals, n_blocks));
}

void philox_normal_fwd_cpu(const std::int64_t* keys, const std::int64_t* replicas,
                           const std::int64_t* counts, float* normals, std::int64_t n_rows,
                           std::int64_t n_total, PhiloxStep step, int n_threads) {
  constexpr std::int64_t kMaxWord = 0xFFFFFFFF;
  std::vector<std::int64_t> starts(static_cast<std::size_t>(n_rows) + 1, 0);
  for (std::int64_t r = 0; r < n_rows; ++r) {
    if (counts[r] < 0 || counts[r] > n_total || counts[r] > 4 * kMaxWord) {
      throw std::invalid_argument("counts: expected 0 to n_total = " + std::to_string(n_total) +
                                  " normals in a row, got " + std::to_string(counts[r]));
    }
    if (replicas[r] < 0 || replicas[r] > kMaxWord) {
      throw std::invalid_argument("replicas: expected 0 to 2**32 - 1, got " +
                                  std::to_string(replicas[r]));
    }
    starts[r + 1] = starts[r] + counts[r];
  }
  if (starts[n_rows] != n_total) {
    throw std::invalid_argument("counts: expected a sum of n_total = " + std::to_string(n_total) +
                                ", got " + std::to_string(starts[n_rows]));
  }
  // A long row is cut into chunks of whole blocks, so that one row can use every thread.
  constexpr std::int64_t kChunk = 4096;
  struct Chunk {
    std::int64_t row;
    std::int64_t first;
  };
  std::vector<Chunk> chunks;
  for (std::int64_t r = 0; r < n_rows; ++r) {
    for (std::int64_t first = 0; first < counts[r]; first += kChunk) chunks.push_back({r, first});
  }
  constexpr std::int64_t kWorkPerNormal = 4;
  const auto n_chunks = static_cast<std::int64_t>(chunks.size());
  [[maybe_unused]] const int threads = threads_for(n_total * kWorkPerNormal, n_threads);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (std::int64_t k = 0; k < n_chunks; ++k) {
    const Chunk chunk = chunks[k];
    const std::int64_t r = chunk.row;
    const std::int64_t end = chunk.first + kChunk < counts[r] ? chunk.first + kChunk : counts[r];
    philox_normal_row(static_cast<std::uint64_t>(keys[r]), static_cast<std::uint32_t>(replicas[r]),
                      step, chunk.first, end, normals + starts[r] + chunk.first);
  }
}

void philox_integers_cpu(const std::int64_t* counters, const std::int64_t* keys,
                         std::int64_t* words, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    PhiloxBlock counter;
    for (int w = 0; w < 4; ++w) counter.word[w] = static_cast<std::uint32_t>(counters[4 * i + w]);
    const PhiloxBlock block = philox_4x32_10(counter, static_cast<std::uint32_t>(keys[2 * i]),
                                             static_cast<std::uint32_t>(keys[2 * i + 1]));
    for (int w = 0; w < 4; ++w) words[4 * i + w] = block.word[w];
  }
}

}  // namespace tito_fast
