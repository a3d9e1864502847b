// The message along the edges of a batch of molecules, forward and backward
// (tito_fast/ops/painn_message/reference.py is its definition). With [gate, dir, ds, de, cross] =
// phi([s_j, e_ij]) * w(enc(d_ij)) and u the saturated vector of edge j -> i:
//   scalars_i = sum_j ds,  vectors_i = sum_j gate v_j + dir u + (sum_j cross u) x v_i,  edges_ij =
//   [e_ij +] de.
//
// Arrays are dense and row-major; W is the width. Edges are sorted by receiver. An unordered pair
// of atoms has one distance and one filter row, which its two edges read.
#pragma once

#include <cstdint>

#include "common/mlp_layout.h"

namespace tito_fast {

struct MessageGraph {
  std::int64_t n_atoms;
  std::int64_t n_edges;
  std::int64_t n_pairs;
  std::int64_t n_molecules;
  const std::int64_t* batch_ptr;  // (n_molecules + 1)
  const std::int64_t* edge_ptr;   // (n_atoms + 1)
  const std::int64_t* source;     // (n_edges)
  const std::int64_t* edge_pair;  // (n_edges): pair of each edge; pairs are sorted by molecule
  const std::int64_t*
      pair_edges;  // (n_pairs, 2): edges of each pair, -1 where the second is missing
};

struct MessageShape {
  int width;
  bool has_vectors;  // false: vectors are zero, and the gate and cross blocks are not computed
  bool has_edges;    // false: edge features are not wanted, and their block is not computed
  bool adds_edges;   // edges = e + de, else de
  double distance_length;
};

template <typename T>
struct MessageInputs {
  const T* scalars;        // (n_atoms, W)
  const T* vectors;        // (n_atoms, 3, W); null without vectors
  const T* edge_features;  // (n_edges, W)
  const T* pair_dist;      // (n_pairs)
  const T* vec_saturated;  // (n_edges, 3)
  Mlp<const T> phi;        // first: (W, 2 W)
  Mlp<const T> filter;
};

template <typename T>
struct MessageOutputs {
  T* scalars;    // (n_atoms, W)
  T* vectors;    // (n_atoms, 3, W)
  T* edges;      // (n_edges, W); null without edges
  T* cross_sum;  // (n_atoms, 3, W): sum_j cross u, which the backward reads; null without vectors
};

template <typename T>
struct MessageGradients {
  // Of the outputs:
  const T* scalars;
  const T* vectors;
  const T* edges;      // null without edges
  const T* cross_sum;  // not a gradient: what the forward kept
  // Of the inputs; written:
  T* in_scalars;
  T* in_vectors;  // null without vectors
  T* in_edges;
  T* pair_dist;      // null if not wanted
  T* vec_saturated;  // null if not wanted
  Mlp<T> phi;
  Mlp<T> filter;
};

// Both throw std::bad_alloc when the workspace does not fit. Results are the same for every number
// of threads.
template <typename T>
void painn_message_fwd_cpu(const MessageGraph& graph, const MessageShape& shape,
                           const MessageInputs<T>& inputs, const MessageOutputs<T>& outputs,
                           int n_threads);
template <typename T>
void painn_message_bwd_cpu(const MessageGraph& graph, const MessageShape& shape,
                           const MessageInputs<T>& inputs, const MessageGradients<T>& gradients,
                           int n_threads);

}  // namespace tito_fast
