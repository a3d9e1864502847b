// Rows of a table of bond types, one per edge. All arrays are dense and row-major.
#pragma once

#include <cstdint>

namespace tito_fast {

struct EdgeEmbedSizes {
  std::int64_t n_edges;
  std::int64_t n_types;
  std::int64_t n_features;
};

// features (n_edges, n_features): row e is row edge_type[e] of table (n_types, n_features).
template <typename T>
void edge_embed_fwd_cpu(const std::int64_t* edge_type, const T* table, T* features,
                        EdgeEmbedSizes sizes, int n_threads);

// grad_table (n_types, n_features): row t is the sum of the rows e of grad (n_edges, n_features)
// with edge_type[e] = t.
template <typename T>
void edge_embed_bwd_cpu(const std::int64_t* edge_type, const T* grad, T* grad_table,
                        EdgeEmbedSizes sizes, int n_threads);

}  // namespace tito_fast
