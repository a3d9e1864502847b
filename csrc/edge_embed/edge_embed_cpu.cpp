// The backward sums each chunk of edges into a table of its own, in double and in the order of the
// edges, and then the chunks in their order. Chunks depend on the sizes alone, so the result does
// not depend on the number of threads. Letters: e edge, t type, f feature, k chunk.
#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/batch.h"
#include "edge_embed/edge_embed.h"

namespace tito_fast {
namespace {

void check_edge_type(const std::int64_t* edge_type, EdgeEmbedSizes sizes) {
  for (std::int64_t e = 0; e < sizes.n_edges; ++e) {
    if (edge_type[e] < 0 || edge_type[e] >= sizes.n_types) {
      throw std::invalid_argument(
          "edge_type: expected 0 to n_types - 1 with n_types = " + std::to_string(sizes.n_types) +
          ", got " + std::to_string(edge_type[e]) + " at edge " + std::to_string(e));
    }
  }
}

}  // namespace

template <typename T>
void edge_embed_fwd_cpu(const std::int64_t* edge_type, const T* table, T* features,
                        EdgeEmbedSizes sizes, int n_threads) {
  check_edge_type(edge_type, sizes);
  const std::int64_t n_features = sizes.n_features;
  if (n_features == 0) return;
  const std::size_t row_bytes = static_cast<std::size_t>(n_features) * sizeof(T);
  [[maybe_unused]] const int threads = threads_for(sizes.n_edges * n_features, n_threads);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (std::int64_t e = 0; e < sizes.n_edges; ++e) {
    std::memcpy(features + e * n_features, table + edge_type[e] * n_features, row_bytes);
  }
}

template <typename T>
void edge_embed_bwd_cpu(const std::int64_t* edge_type, const T* grad, T* grad_table,
                        EdgeEmbedSizes sizes, int n_threads) {
  check_edge_type(edge_type, sizes);
  const std::int64_t n_features = sizes.n_features;
  const std::int64_t table_size = sizes.n_types * n_features;
  // At least 8 edges for each row of a chunk's table: the tables are then smaller than grad.
  const std::int64_t chunk_edges = std::max<std::int64_t>(2048, 8 * sizes.n_types);
  const std::int64_t n_chunks = (sizes.n_edges + chunk_edges - 1) / chunk_edges;
  std::vector<double> chunk_tables(static_cast<std::size_t>(n_chunks * table_size), 0.0);
  [[maybe_unused]] const int threads = threads_for(sizes.n_edges * n_features, n_threads);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
#pragma omp for schedule(static)
    for (std::int64_t k = 0; k < n_chunks; ++k) {
      double* const sums = chunk_tables.data() + k * table_size;
      const std::int64_t end = std::min((k + 1) * chunk_edges, sizes.n_edges);
      for (std::int64_t e = k * chunk_edges; e < end; ++e) {
        double* const row = sums + edge_type[e] * n_features;
        const T* const grad_row = grad + e * n_features;
        for (std::int64_t f = 0; f < n_features; ++f) row[f] += static_cast<double>(grad_row[f]);
      }
    }
#pragma omp for schedule(static)
    for (std::int64_t t = 0; t < sizes.n_types; ++t) {
      for (std::int64_t f = t * n_features; f < (t + 1) * n_features; ++f) {
        double sum = 0.0;
        for (std::int64_t k = 0; k < n_chunks; ++k) sum += chunk_tables[k * table_size + f];
        grad_table[f] = static_cast<T>(sum);
      }
    }
  }
}

#define TITO_INSTANTIATE(T)                                                                    \
  template void edge_embed_fwd_cpu<T>(const std::int64_t*, const T*, T*, EdgeEmbedSizes, int); \
  template void edge_embed_bwd_cpu<T>(const std::int64_t*, const T*, T*, EdgeEmbedSizes, int);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace tito_fast
