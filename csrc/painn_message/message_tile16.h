// The forward of a message with bfloat16 factors in phi's products; sums, norms, filters and gating
// stay in float32.
#pragma once

#ifdef __AVX512BF16__

#include "common/gemm16.h"
#include "painn_message/message_tile.h"

namespace tito_fast {
namespace TITO_ISA {

// Phi's linears in bfloat16; the biases are those of PackedMessage.
struct HalfMessage {
  const Half* first;  // the edges' share; null: there is no such message
  const Half* second;
  const Half* last[kMaxBlocks];
};

// (kMlpRows, padded W) but for edges, (kMlpRows, padded features of the edges).
struct HalfTile {
  Half* edges;
  Half* hidden;
};

inline HalfTile take_half_tile(int n_features, int width, Workspace& memory) {
  return {memory.take<Half>(kMlpRows * row_stride<float>(n_features)),
          memory.take<Half>(kMlpRows * row_stride<float>(width))};
}

inline const Half* pack_half(const Linear<const float>& linear, bool is_centered,
                             Workspace& memory) {
  Half* const packed = memory.take<Half>(packed_size16(linear.n_in, linear.n_out));
  double* const means = memory.take<double>(linear.n_in);
  if (packed == nullptr) return nullptr;
  for (int k = 0; k < linear.n_in; ++k) {
    means[k] = 0.0;
    if (!is_centered) continue;
    for (int c = 0; c < linear.n_out; ++c) means[k] += linear.weight[c * linear.weight_stride + k];
    means[k] /= linear.n_out;
  }
  pack16(linear.n_in, linear.n_out, packed,
         [&](int k, int c) { return linear.weight[c * linear.weight_stride + k] - means[k]; });
  return packed;
}

// Fills tile.a1 with the first linear of phi for n_rows edges.
inline void first_linear16(const MessageLayer<float>& layer, const HalfMessage& half,
                           std::int64_t first_edge, int n_rows, const MlpTile<float>& tile,
                           const HalfTile& half_tile) {
  const PackedMessage<float>& weights = *layer.weights;
  const std::int64_t stride = row_stride<float>(weights.width);
  gather_shares(layer, first_edge, n_rows, tile.a1);
  if (layer.edge_share != nullptr) return;
  const int n_in = weights.phi.first.n_in;
  round_rows(n_rows, row_stride<float>(n_in), layer.edges_in + first_edge * layer.edge_row,
             layer.edge_row, half_tile.edges);
  gemm16<Start::kSum>(n_rows, n_in, weights.width, half_tile.edges, row_stride<float>(n_in),
                      half.first, nullptr, tile.a1, stride);
}

// As message_rows.
inline void message_rows16(const MessageLayer<float>& layer, const HalfMessage& half,
                           const PairFilter<float>& filter, std::int64_t first_receiver,
                           std::int64_t end_receiver, const MlpTile<float>& tile,
                           const HalfTile& half_tile, float* p) {
  const PackedMessage<float>& weights = *layer.weights;
  const int width = weights.width;
  const std::int64_t stride = row_stride<float>(width);
  clear_sums(layer, first_receiver, end_receiver);
  std::int64_t receiver = first_receiver;
  const std::int64_t end_edge = layer.edge_ptr[end_receiver];
  for (std::int64_t first = layer.edge_ptr[first_receiver]; first < end_edge; first += kMlpRows) {
    const int n_rows = end_edge - first < kMlpRows ? static_cast<int>(end_edge - first) : kMlpRows;
    Run runs[kMlpRows];
    const int n_runs = make_runs(layer.edge_ptr, first, n_rows, &receiver, runs);
    first_linear16(layer, half, first, n_rows, tile, half_tile);
    norm_silu16(n_rows, width, weights.phi.first_scale, weights.phi.first_shift, tile.a1,
                half_tile.hidden);
    gemm16<Start::kBias>(n_rows, width, width, half_tile.hidden, stride, half.second,
                         weights.phi.second.bias, tile.a2, stride);
    norm_silu16(n_rows, width, weights.phi.second_scale, weights.phi.second_shift, tile.a2,
                half_tile.hidden);
    for (int slot = 0; slot < weights.n_blocks; ++slot) {
      gemm16<Start::kBias>(n_rows, width, width, half_tile.hidden, stride, half.last[slot],
                           weights.phi_last[slot].bias, p, stride);
      add_block(layer, filter, slot, n_rows, runs, n_runs, first, p);
    }
  }
}

}  // namespace TITO_ISA
}  // namespace tito_fast

#endif  // __AVX512BF16__
