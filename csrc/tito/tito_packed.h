// The network's weights as the kernels read them.
#pragma once

#include "painn_message/message_packed.h"
#include "painn_message/message_tile16.h"
#include "painn_update/painn_update_rows.h"
#include "readout_step/readout_rows.h"
#include "time_embed/time_embed_rows.h"
#include "tito/tito_network.h"

namespace tito_fast {
namespace TITO_ISA {

template <typename T>
struct PackedLayer {
  PackedMessage<T> message;
  PackedLinear<T> reduce_vectors;  // with a bottleneck
  PackedLinear<T> expand_vectors;
  PackedLinear<T> expand_scalars;
  PackedPainnUpdate<T> update;
  const T* table;  // (n_blocks, n_knots + 5, padded width); null: the MLP is run
  int n_knots;
#ifdef __AVX512BF16__
  HalfMessage half;
#endif
};

template <typename T>
struct PackedTito {
  TitoShape shape;
  const T* atom_embedding;  // torch's
  const T* bond_embedding;
  PackedLayer<T>* embedding_layers;
  PackedMlp<T> condition_readout;  // unset without a condition
  PackedMlp<T> condition_gate;     // these two where vectors are handed over
  PackedLinear<T> condition_v;
  PackedTimeEmbed<T> combine;
  PackedLayer<T>* model_layers;
  PackedReadout<T> readout;
};

// outer(inner(x)) as one linear: weight and bias in a piece of the workspace.
template <typename T>
Linear<const T> compose(const Linear<const T>& outer, const Linear<const T>& inner, bool has_bias,
                        Workspace& memory) {
  T* const weight = memory.take<T>(std::int64_t{outer.n_out} * inner.n_in);
  T* const bias = has_bias ? memory.take<T>(outer.n_out) : nullptr;
  if (weight == nullptr) {
    // While counting, only whether there is a bias matters.
    const T* const any = outer.bias == nullptr ? inner.bias : outer.bias;
    return {nullptr, has_bias ? any : nullptr, inner.n_in, inner.n_in, outer.n_out};
  }
  const Linear<const T> result{weight, bias, inner.n_in, inner.n_in, outer.n_out};
  for (int o = 0; o < outer.n_out; ++o) {
    const T* const row = outer.weight + o * outer.weight_stride;
    for (int k = 0; k < inner.n_in; ++k) {
      double total = 0.0;
      for (int m = 0; m < outer.n_in; ++m) {
        total += static_cast<double>(row[m]) * inner.weight[m * inner.weight_stride + k];
      }
      weight[std::int64_t{o} * inner.n_in + k] = static_cast<T>(total);
    }
    if (!has_bias) continue;
    double total = outer.bias == nullptr ? 0.0 : outer.bias[o];
    for (int m = 0; m < outer.n_in; ++m) {
      total += static_cast<double>(row[m]) * (inner.bias == nullptr ? T(0) : inner.bias[m]);
    }
    bias[o] = static_cast<T>(total);
  }
  return result;
}

#ifdef __AVX512BF16__
inline HalfMessage pack_half_message(const TitoLayer<double>&, const Linear<const double>&,
                                     const PackedMessage<double>&, Workspace&) {
  return {};
}

// first: phi's first linear's share of the edges.
inline HalfMessage pack_half_message(const TitoLayer<float>& layer,
                                     const Linear<const float>& first,
                                     const PackedMessage<float>& message, Workspace& memory) {
  HalfMessage half{};
  half.first = pack_half(first, true, memory);
  half.second = pack_half(layer.phi.second, true, memory);
  for (int slot = 0; slot < message.n_blocks; ++slot) {
    half.last[slot] =
        pack_half(block_of(layer.phi.last, message.width, message.block[slot]), false, memory);
  }
  return half;
}
#endif

// The message behind a bottleneck: the reducing linears of scalars and edges become part of phi's
// first.
// Returns the edges' share of that linear.
template <typename T>
Linear<const T> pack_reduction(const TitoLayer<T>& layer, int width, PackedLayer<T>& packed,
                               Workspace& memory) {
  const Reduction<T>& reduction = layer.reduction;
  const Linear<const T> of_source = source_share(layer.phi.first, width);
  const Linear<const T> of_edge = edge_share(layer.phi.first, width);
  Linear<const T> source = compose(of_source, reduction.reduce_scalars, true, memory);
  const Linear<const T> edge = compose(of_edge, reduction.reduce_edges, true, memory);
  // The edges' bias goes with the source's.
  if (source.weight != nullptr) {
    T* const bias = const_cast<T*>(source.bias);
    for (int c = 0; c < width; ++c) bias[c] += edge.bias[c];
  }
  Linear<const T> edge_without_bias = edge;
  edge_without_bias.bias = nullptr;
  packed.message.source = pack_linear(source, true, false, memory);
  packed.message.phi.first = pack_linear(edge_without_bias, true, false, memory);
  packed.message.expand_edges = pack_linear(reduction.expand_edges, false, false, memory);
  packed.reduce_vectors = pack_linear(reduction.reduce_vectors, false, false, memory);
  packed.expand_vectors = pack_linear(reduction.expand_vectors, false, false, memory);
  packed.expand_scalars = pack_linear(reduction.expand_scalars, false, false, memory);
  return edge_without_bias;
}

template <typename T>
const T* pack_table(const FilterTable& table, int n_blocks, int width, Workspace& memory) {
  const std::int64_t n_rows = std::int64_t{n_blocks} * (table.n_knots + 5);
  T* const packed = memory.take<T>(n_rows * padded<T>(width));
  if (packed == nullptr) return nullptr;
  for (std::int64_t r = 0; r < n_rows; ++r) {
    for (int c = 0; c < padded<T>(width); ++c) {
      packed[r * padded<T>(width) + c] =
          c < width ? static_cast<T>(table.rows[r * width + c]) : T(0);
    }
  }
  return packed;
}

template <typename T>
PackedLayer<T> pack_layer(const TitoShape& shape, const TitoLayer<T>& layer,
                          const MessageShape& message, bool updates_vectors,
                          [[maybe_unused]] bool has_half_products, Workspace& memory) {
  PackedLayer<T> packed{};
  packed.message = pack_message(message, layer.phi, layer.filter, false, memory);
  Linear<const T> first = edge_share(layer.phi.first, shape.width);
  if (shape.is_reduced) first = pack_reduction(layer, shape.width, packed, memory);
#ifdef __AVX512BF16__
  if (has_half_products) packed.half = pack_half_message(layer, first, packed.message, memory);
#endif
  const int n = shape.n_features;
  Mlp<const T> mlp = layer.update;
  if (!updates_vectors) mlp.last = linear_outputs(mlp.last, n, 2 * n);
  packed.update = pack_painn_update(
      PainnUpdate<const T>{n, updates_vectors ? layer.u : nullptr, layer.v, mlp}, false, memory);
  if (layer.table.rows != nullptr) {
    packed.table = pack_table<T>(layer.table, packed.message.n_blocks, shape.width, memory);
    packed.n_knots = layer.table.n_knots;
  }
  return packed;
}

template <typename T>
const T* copy_array(const T* values, std::int64_t n, Workspace& memory) {
  T* const result = memory.take<T>(n);
  if (result == nullptr) return nullptr;
  for (std::int64_t k = 0; k < n; ++k) result[k] = values[k];
  return result;
}

constexpr int kAtomTypes = 167;
constexpr int kBondTypes = 13;

template <typename T>
PackedTito<T> pack_tito(const TitoShape& shape, const TitoWeights<T>& weights, Workspace& memory) {
  const int n_embedding = shape.n_embedding_layers;
  const int n_model = shape.n_model_layers;
  PackedTito<T> packed{};
  packed.shape = shape;
  const int n = shape.n_features;
  packed.atom_embedding = copy_array(weights.atom_embedding, std::int64_t{kAtomTypes} * n, memory);
  packed.bond_embedding = copy_array(weights.bond_embedding, std::int64_t{kBondTypes} * n, memory);
  packed.embedding_layers = memory.take<PackedLayer<T>>(n_embedding);
  packed.model_layers = memory.take<PackedLayer<T>>(n_model);
  for (int k = 0; k < n_embedding; ++k) {
    // No vectors before the first layer; after the last only those that are handed over.
    const MessageShape message{shape.width, k > 0, true, !shape.is_reduced, shape.condition_length};
    const bool updates_vectors = shape.hands_over_vectors || k + 1 < n_embedding;
    const PackedLayer<T> layer =
        pack_layer(shape, weights.embedding_layers[k], message, updates_vectors, false, memory);
    if (packed.embedding_layers != nullptr) packed.embedding_layers[k] = layer;
  }
  for (int k = 0; k < n_model; ++k) {
    const MessageShape message{shape.width, true, k + 1 < n_model, !shape.is_reduced,
                               shape.velocity_length};
    const PackedLayer<T> layer =
        pack_layer(shape, weights.model_layers[k], message, true, shape.has_half_products, memory);
    if (packed.model_layers != nullptr) packed.model_layers[k] = layer;
  }
  if (n_embedding > 0) {
    packed.condition_readout = pack_mlp(weights.condition_readout, false, memory);
  }
  if (shape.hands_over_vectors) {
    packed.condition_gate = pack_mlp(weights.condition_gate, false, memory);
    const Linear<const T> v{weights.condition_v, nullptr, n, n, n};
    packed.condition_v = pack_linear(v, false, false, memory);
  }
  packed.combine = pack_time_embed(weights.combine, n, false, memory);
  packed.readout = pack_readout(weights.readout, weights.readout_v, false, memory);
  return packed;
}

}  // namespace TITO_ISA
}  // namespace tito_fast
