// Rows cut into chunks of a size that does not depend on the number of threads, so that sums over a
// chunk, and over the chunks in order, do not either.
#pragma once

#include <cstdint>

#include "common/mlp.h"
#include "common/workspace.h"

namespace tito_fast {
namespace TITO_ISA {

constexpr std::int64_t kChunkRows = 2 * kMlpRows;
// Chunks that keep sums of their own, which cost memory.
constexpr std::int64_t kMaxSums = 32;

struct Chunk {
  std::int64_t index;
  std::int64_t first;
  std::int64_t n_rows;
  int thread;
};

inline std::int64_t count_chunks(std::int64_t n_rows, std::int64_t chunk_rows) {
  return (n_rows + chunk_rows - 1) / chunk_rows;
}

// Rows of a chunk with sums: whole tiles, at most kMaxSums chunks.
inline std::int64_t sum_chunk_rows(std::int64_t n_rows) {
  const std::int64_t tiles = count_chunks(count_chunks(n_rows, kMaxSums), kMlpRows);
  return tiles * kMlpRows > kChunkRows ? tiles * kMlpRows : kChunkRows;
}

inline int chunk_threads(std::int64_t n_rows, std::int64_t chunk_rows, int n_threads) {
  const std::int64_t n_chunks = count_chunks(n_rows, chunk_rows);
  const std::int64_t threads = n_chunks < n_threads ? n_chunks : n_threads;
  return threads < 1 ? 1 : static_cast<int>(threads);
}

// Calls work(chunk) for every chunk; chunk.thread < threads tells the calls apart that run at once.
template <typename Work>
void for_each_chunk(std::int64_t n_rows, std::int64_t chunk_rows, int threads, const Work& work) {
  const std::int64_t n_chunks = count_chunks(n_rows, chunk_rows);
#pragma omp parallel for schedule(static, 1) num_threads(threads) if (threads > 1)
  for (int thread = 0; thread < threads; ++thread) {
    for (std::int64_t c = thread; c < n_chunks; c += threads) {
      const std::int64_t first = c * chunk_rows;
      const std::int64_t n = n_rows - first < chunk_rows ? n_rows - first : chunk_rows;
      work(Chunk{c, first, n, thread});
    }
  }
}

// Calls work(row, n_rows) for every tile of a chunk, n_rows at most kMlpRows.
template <typename Work>
void for_each_tile(const Chunk& chunk, const Work& work) {
  const std::int64_t end = chunk.first + chunk.n_rows;
  for (std::int64_t row = chunk.first; row < end; row += kMlpRows) {
    work(row, end - row < kMlpRows ? static_cast<int>(end - row) : kMlpRows);
  }
}

// Chunks that have sums: one at least, for there are totals without rows too.
inline std::int64_t count_sums(std::int64_t n_rows, std::int64_t chunk_rows) {
  return n_rows == 0 ? 1 : count_chunks(n_rows, chunk_rows);
}

// Memory of one call: what all share, one part per thread, and one part of sums per chunk.
class SharedWorkspace {
 public:
  // The byte counts are those of a counting Workspace.
  SharedWorkspace(std::int64_t n_shared, std::int64_t n_thread, int threads, std::int64_t n_sums,
                  std::int64_t n_chunks)
      : memory_(n_shared + n_thread * threads + n_sums * n_chunks),
        n_shared_(n_shared),
        n_thread_(n_thread),
        threads_(threads),
        n_sums_(n_sums),
        n_chunks_(n_chunks) {}

  bool is_missing() const { return memory_.is_missing(); }
  Workspace shared() const { return memory_.part(0); }
  Workspace thread(int i) const { return memory_.part(n_shared_ + n_thread_ * i); }
  Workspace sums(std::int64_t chunk) const {
    return memory_.part(n_shared_ + n_thread_ * threads_ + n_sums_ * chunk);
  }

  template <typename T>
  void clear_sums(std::int64_t chunk) const {
    T* const values = sums(chunk).template take<T>(0);
    for (std::int64_t i = 0; i < n_sums_ / static_cast<std::int64_t>(sizeof(T)); ++i) {
      values[i] = T(0);
    }
  }

  template <typename T>
  void clear_all_sums() const {
    for_each_chunk(n_chunks_, 1, chunk_threads(n_chunks_, 1, threads_),
                   [&](const Chunk& chunk) { clear_sums<T>(chunk.index); });
  }

  // Adds the sums of all chunks in order; the first chunk's are then the totals.
  template <typename T>
  void add_sums() const {
    const std::int64_t n = n_sums_ / static_cast<std::int64_t>(sizeof(T));
    T* const total = sums(0).template take<T>(0);
    for_each_chunk(n, kSumValues, chunk_threads(n, kSumValues, threads_), [&](const Chunk& part) {
      for (std::int64_t c = 1; c < n_chunks_; ++c) {
        const T* const values = total + c * n;
        for (std::int64_t i = part.first; i < part.first + part.n_rows; ++i) total[i] += values[i];
      }
    });
  }

 private:
  static constexpr std::int64_t kSumValues = 1 << 14;

  Workspace memory_;
  std::int64_t n_shared_;
  std::int64_t n_thread_;
  int threads_;
  std::int64_t n_sums_;
  std::int64_t n_chunks_;
};

// Bytes that take(workspace) takes.
template <typename Take>
std::int64_t count_bytes(const Take& take) {
  Workspace counter;
  take(counter);
  return counter.used();
}

}  // namespace TITO_ISA
}  // namespace tito_fast
