#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/batch.h"
#include "philox_normal/philox.h"
#include "philox_normal/philox_normal.h"

namespace tito_fast {
namespace {

constexpr double kTwoPi = 6.283185307179586476925286766559;
constexpr double kUniformUnit = 1.0 / 16777216.0;  // 2^-24: uniforms keep a word's top 24 bits

// Box-Muller in double, rounded once: (n_0, n_1) from words (0, 1), (n_2, n_3) from words (2, 3).
void normals_of_block(const PhiloxBlock& block, float* normals) {
  for (std::ptrdiff_t pair = 0; pair < 2; ++pair) {
    const double u1 = ((block.word[2 * pair] >> 8) + 1.0) * kUniformUnit;
    const double u2 = (block.word[2 * pair + 1] >> 8) * kUniformUnit;
    const double radius = std::sqrt(-2.0 * std::log(u1));
    const double angle = kTwoPi * u2;
    normals[2 * pair] = static_cast<float>(radius * std::cos(angle));
    normals[2 * pair + 1] = static_cast<float>(radius * std::sin(angle));
  }
}

void fill_row(std::int64_t key, std::uint32_t replica, PhiloxStep step, float* normals,
              std::int64_t first, std::int64_t end) {
  const auto bits = static_cast<std::uint64_t>(key);
  const auto key_low = static_cast<std::uint32_t>(bits);
  const auto key_high = static_cast<std::uint32_t>(bits >> 32);
  for (std::int64_t e = first; e < end; e += 4) {
    const PhiloxBlock counter{
        {static_cast<std::uint32_t>(e / 4), step.rollout_step, replica, step.stream_evaluation}};
    const PhiloxBlock block = philox_4x32_10(counter, key_low, key_high);
    if (e + 4 <= end) {
      normals_of_block(block, normals + e);
    } else {
      float last[4];
      normals_of_block(block, last);
      for (std::int64_t k = e; k < end; ++k) normals[k] = last[k - e];
    }
  }
}

}  // namespace

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
  constexpr std::int64_t kWorkPerNormal = 20;
  const auto n_chunks = static_cast<std::int64_t>(chunks.size());
  [[maybe_unused]] const int threads = threads_for(n_total * kWorkPerNormal, n_threads);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (std::int64_t k = 0; k < n_chunks; ++k) {
    const Chunk chunk = chunks[k];
    const std::int64_t r = chunk.row;
    const std::int64_t end = chunk.first + kChunk < counts[r] ? chunk.first + kChunk : counts[r];
    fill_row(keys[r], static_cast<std::uint32_t>(replicas[r]), step, normals + starts[r],
             chunk.first, end);
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
