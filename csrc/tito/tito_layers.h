// A layer of the network on a group, and the two networks.
#pragma once

#include "tito/tito_group.h"

namespace tito_fast {
namespace TITO_ISA {

// What a layer reads and writes of the edges.
template <typename T>
struct LayerEdges {
  const T* in;
  const T* share;  // of phi's first linear, or null
  T* out;          // null: not wanted
};

// The sources' share of phi's first linear, and the reduced vectors, of atoms first .. end.
template <typename T>
void prepare_sources(const PackedTito<T>& net, const PackedLayer<T>& layer, const T* vectors,
                     std::int64_t first, std::int64_t end, const Group<T>& group) {
  const std::int64_t features = row_stride<T>(net.shape.n_features);
  const std::int64_t width = row_stride<T>(net.shape.width);
  const int n = static_cast<int>(end - first);
  const PackedLinear<T>& source = layer.message.source;
  gemm<Start::kBias>(n, source.n_in, source.n_out, group.scalars + first * features, features, 1,
                     source.forward, source.bias, group.source_share + first * width, width);
  if (!net.shape.is_reduced || !layer.message.has_vectors) return;
  const PackedLinear<T>& reduce = layer.reduce_vectors;
  gemm<Start::kZero>(3 * n, reduce.n_in, reduce.n_out, vectors + 3 * first * features, features, 1,
                     reduce.forward, static_cast<const T*>(nullptr),
                     group.reduced + 3 * first * width, width);
}

// Adds the sums of a message to the scalars and vectors of atoms first .. end.
template <typename T>
void add_sums(const PackedTito<T>& net, const PackedLayer<T>& layer, const T* vectors,
              T* new_vectors, std::int64_t first, std::int64_t end, const Group<T>& group) {
  const std::int64_t features = row_stride<T>(net.shape.n_features);
  const std::int64_t width = row_stride<T>(net.shape.width);
  const bool is_reduced = net.shape.is_reduced;
  const bool has_vectors = layer.message.has_vectors;
  for (std::int64_t i = first; i < end; ++i) {
    const T* const sums = group.sums + i * kSumRows * width;
    const T* const v = is_reduced ? group.reduced + 3 * i * width : vectors + 3 * i * width;
    T* const scalars = group.scalars + i * features;
    for (int c = 0; c < width; c += kLanes<T>) {
      Vec<T> dv[3];
      vector_sum(sums, has_vectors ? v : nullptr, width, c, dv);
      for (int axis = 0; axis < 3; ++axis) {
        const std::int64_t at = (3 * i + axis) * width + c;
        if (is_reduced) {
          store(group.reduced_sum + at, dv[axis]);
        } else {
          store(new_vectors + at, has_vectors ? load(vectors + at) + dv[axis] : dv[axis]);
        }
      }
      if (!is_reduced) store(scalars + c, load(scalars + c) + load(sums + kScalarSum * width + c));
    }
    if (!is_reduced) continue;
    for (int c = 0; c < features; c += kLanes<T>) {
      store(scalars + c, load(scalars + c) + load(layer.expand_scalars.bias + c));
      for (int axis = 0; axis < 3; ++axis) {
        const std::int64_t at = (3 * i + axis) * features + c;
        store(new_vectors + at, has_vectors ? load(vectors + at) : Vec<T>{});
      }
    }
  }
  if (!is_reduced) return;
  const int n = static_cast<int>(end - first);
  const T* const none = nullptr;
  const PackedLinear<T>& to_scalars = layer.expand_scalars;
  gemm<Start::kSum>(n, to_scalars.n_in, to_scalars.n_out,
                    group.sums + (first * kSumRows + kScalarSum) * width, kSumRows * width, 1,
                    to_scalars.forward, none, group.scalars + first * features, features);
  const PackedLinear<T>& to_vectors = layer.expand_vectors;
  gemm<Start::kSum>(3 * n, to_vectors.n_in, to_vectors.n_out, group.reduced_sum + 3 * first * width,
                    width, 1, to_vectors.forward, none, new_vectors + 3 * first * features,
                    features);
}

// The filter rows of this thread's part of the pairs: from the table, or through the MLP.
template <typename T>
void fill_filters(const Team& team, const PackedTito<T>& net, const PackedLayer<T>& layer,
                  const GroupTile<T>& tile, const Group<T>& group) {
  const std::int64_t row = layer.message.n_blocks * row_stride<T>(net.shape.width);
  std::int64_t first = 0;
  std::int64_t end = 0;
  team_part(team, (group.n_pairs + kMlpRows - 1) / kMlpRows, &first, &end);
  for (std::int64_t k = first; k < end; ++k) {
    const std::int64_t p = k * kMlpRows;
    const int n = group.n_pairs - p < kMlpRows ? static_cast<int>(group.n_pairs - p) : kMlpRows;
    if (layer.table == nullptr) {
      filter_rows(layer.message, n, group.pair_dist + p, tile.p, tile.message,
                  group.filter_rows + p * row);
    } else {
      spline_rows(layer.table, layer.n_knots + 5, layer.message.n_blocks, net.shape.width, n,
                  group.taps + p, group.filter_rows + p * row);
    }
  }
}

// The message of receivers first .. end, with bfloat16 products where the layer has weights for
// them.
template <typename T>
void sum_messages(const PackedLayer<T>& layer, const MessageLayer<T>& message,
                  const PairFilter<T>& filter, std::int64_t first, std::int64_t end,
                  const GroupTile<T>& tile) {
#ifdef __AVX512BF16__
  if constexpr (sizeof(T) == sizeof(float)) {
    if (layer.half.first != nullptr) {
      message_rows16(message, layer.half, filter, first, end, tile.message, tile.half, tile.p);
      return;
    }
  }
#endif
  (void)layer;
  message_rows(message, filter, first, end, tile.message, tile.p);
}

// One layer: message, then update. Reads vectors, writes new_vectors. `next` is the layer after it,
// or null.
template <typename T>
void run_layer(const Team& team, const PackedTito<T>& net, const PackedLayer<T>& layer,
               const PackedLayer<T>* next, const T* vectors, T* new_vectors,
               const LayerEdges<T>& edges, const GroupTile<T>& tile, const Group<T>& group) {
  const std::int64_t features = row_stride<T>(net.shape.n_features);
  fill_filters(team, net, layer, tile, group);
  // Shares, reduced vectors and filters of all atoms are there.
  team.barrier();
  MessageLayer<T> message{};
  message.weights = &layer.message;
  message.edge_ptr = group.edge_ptr;
  message.source = group.source;
  message.source_share = group.source_share;
  message.vectors = net.shape.is_reduced ? group.reduced : vectors;
  message.vec_saturated = group.vec_saturated;
  message.edges_in = edges.in;
  message.edge_share = edges.share;
  message.edges_out = edges.out;
  message.edge_row = features;
  message.adds_edges = true;
  message.sums = group.sums;
  std::int64_t first = 0;
  std::int64_t end = 0;
  team_receivers(team, group, &first, &end);
  sum_messages(layer, message, PairFilter<T>{group.filter_rows, group.edge_pair, 0}, first, end,
               tile);
  // The others still read the shares and vectors that come next.
  team.barrier();
  add_sums(net, layer, vectors, new_vectors, first, end, group);
  painn_update_rows(layer.update, end - first, group.scalars + first * features,
                    new_vectors + 3 * first * features, group.scalars + first * features,
                    new_vectors + 3 * first * features, features, tile.update);
  if (next != nullptr) prepare_sources(net, *next, new_vectors, first, end, group);
}

// Reads off the condition's features of atoms first .. end what is handed over: scalars in their
// place, vectors, which the layers left in `vectors`, as start_vectors.
template <typename T>
void read_condition(const PackedTito<T>& net, const T* vectors, std::int64_t first,
                    std::int64_t end, const GroupTile<T>& tile, const Group<T>& group) {
  const std::int64_t features = row_stride<T>(net.shape.n_features);
  const int n = static_cast<int>(end - first);
  T* const scalars = group.scalars + first * features;
  if (net.shape.hands_over_vectors) {
    // The projection is computed later: its rows hold the gates.
    T* const gates = group.projection + first * features;
    T* const start = group.start_vectors + 3 * first * features;
    mlp_forward(net.condition_gate, n, scalars, features, gates, features, tile.node);
    const PackedLinear<T>& v = net.condition_v;
    gemm<Start::kZero>(3 * n, v.n_in, v.n_out, vectors + 3 * first * features, features, 1,
                       v.forward, static_cast<const T*>(nullptr), start, features);
    for (int r = 0; r < 3 * n; ++r) {
      for (int c = 0; c < features; c += kLanes<T>) {
        T* const at = start + r * features + c;
        store(at, load(gates + r / 3 * features + c) * load(at));
      }
    }
  }
  mlp_forward(net.condition_readout, n, scalars, features, scalars, features, tile.node);
}

// Fills projection, condition and edge_share, and start_vectors where they are handed over, from
// the current positions, whose geometry and graph are in the group; without a condition from atoms
// and bonds alone.
template <typename T>
void run_condition(const Team& team, const PackedTito<T>& net, const TitoBatch& batch,
                   const GroupTile<T>& tile, const Group<T>& group) {
  const int n_features = net.shape.n_features;
  const std::int64_t features = row_stride<T>(n_features);
  std::int64_t first = 0;
  std::int64_t end = 0;
  team_receivers(team, group, &first, &end);
  for (std::int64_t i = first; i < end; ++i) {
    const std::int64_t z = batch.atomic_numbers[group.first_atom + i];
    pad_rows(1, n_features, net.atom_embedding + z * n_features, n_features,
             group.scalars + i * features);
    for (std::int64_t e = group.edge_ptr[i]; e < group.edge_ptr[i + 1]; ++e) {
      pad_rows(1, n_features, net.bond_embedding + group.edge_type[e] * n_features, n_features,
               group.condition + e * features);
    }
  }
  const int n_layers = net.shape.n_embedding_layers;
  if (n_layers > 0) {
    prepare_sources(net, net.embedding_layers[0], static_cast<const T*>(nullptr), first, end,
                    group);
  }
  for (int k = 0; k < n_layers; ++k) {
    const PackedLayer<T>* const next = k + 1 < n_layers ? net.embedding_layers + k + 1 : nullptr;
    run_layer(team, net, net.embedding_layers[k], next, group.vectors[k % 2],
              group.vectors[(k + 1) % 2], LayerEdges<T>{group.condition, nullptr, group.condition},
              tile, group);
  }
  if (n_layers > 0) read_condition(net, group.vectors[n_layers % 2], first, end, tile, group);
  time_embed_scalars_share(net.combine, static_cast<int>(end - first),
                           group.scalars + first * features, features,
                           group.projection + first * features, features);
  const PackedLinear<T>& share = net.model_layers[0].message.phi.first;
  const std::int64_t first_edge = group.edge_ptr[first];
  gemm<Start::kZero>(static_cast<int>(group.edge_ptr[end] - first_edge), share.n_in, share.n_out,
                     group.condition + first_edge * features, features, 1, share.forward,
                     static_cast<const T*>(nullptr),
                     group.edge_share + first_edge * row_stride<T>(net.shape.width),
                     row_stride<T>(net.shape.width));
  team.barrier();
}

// Fills readout (n_atoms, 3), un-centered, from the molecules' shares, start_vectors and the
// geometry in the group.
template <typename T>
void run_velocity(const Team& team, const PackedTito<T>& net, const GroupTile<T>& tile,
                  const Group<T>& group) {
  const std::int64_t features = row_stride<T>(net.shape.n_features);
  std::int64_t first = 0;
  std::int64_t end = 0;
  team_receivers(team, group, &first, &end);
  time_embed_rows(net.combine, end - first, group.projection + first * features, features,
                  group.molecule_share, features, group.molecule_idx + first,
                  group.scalars + first * features, features, tile.node);
  prepare_sources(net, net.model_layers[0], group.start_vectors, first, end, group);
  const int n_layers = net.shape.n_model_layers;
  const T* vectors = group.start_vectors;
  for (int k = 0; k < n_layers; ++k) {
    const bool is_last = k + 1 == n_layers;
    T* const new_vectors = group.vectors[k % 2];
    const LayerEdges<T> edges{k == 0 ? group.condition : group.edges,
                              k == 0 ? group.edge_share : nullptr, is_last ? nullptr : group.edges};
    run_layer(team, net, net.model_layers[k], is_last ? nullptr : net.model_layers + k + 1, vectors,
              new_vectors, edges, tile, group);
    vectors = new_vectors;
  }
  readout_rows(net.readout, end - first, group.scalars + first * features,
               vectors + 3 * first * features, features, group.readout + 3 * first, tile.node);
  team.barrier();
}

}  // namespace TITO_ISA
}  // namespace tito_fast
