// The backward of a message for a range of receivers; phi is computed again. With g the gradients
// of the sums,
//   gate:  dm = sum_axis gv_i v_j,    dv_j += m gv_i         direction: dm = sum_axis gv_i u,  du
//   += sum_c m gv_i ds:    dm = gs_i                                         de:        dm = ge_ij
//   cross: dm = sum_axis gc_i u,      du += sum_c m gc_i     with gc_i = v_i x gv_i
// where m = p w is a block of phi times the filter: dp = dm w, dw = dm p.
#pragma once

#include "painn_message/message_plan.h"
#include "painn_message/message_tile.h"

namespace tito_fast {
namespace TITO_ISA {

// Rows of what a source receives: the gradient of its share of phi's first linear, and of its
// vectors.
constexpr int kSourceRows = 4;

template <typename T>
struct MessageLayerBackward {
  MessageLayer<T> forward;  // edges_out and sums are not used
  const T* scalars;         // (n_atoms, padded W): gs
  const T* vectors;         // (n_atoms, 3, padded W): gv
  const T* crossed;         // (n_atoms, 3, padded W): gc; null without vectors
  const T* edges;           // (n_edges, W): ge; null without edges
  T* in_edges;              // (n_edges, W)
  T* vec_saturated;         // (n_edges, 3), or null
  T* filter;                // (n_edges from first_edge, n_blocks, padded W): dw
  std::int64_t first_edge;
};

template <typename T>
struct BackwardTile {
  MlpTile<T> mlp;
  T* p;  // (kMlpRows, padded W)
  T* dp;
};

// One edge's part of a block: p becomes dp in `dp`, dw is written, sources and vectors of edges
// receive theirs.
template <typename T>
TITO_INLINE void edge_block_backward(const MessageLayerBackward<T>& layer, Block block,
                                     std::int64_t receiver, std::int64_t e, const T* p, const T* w,
                                     T* dp, T* dw, T* to_source) {
  const int width = layer.forward.weights->width;
  const std::int64_t stride = row_stride<T>(width);
  const T* const u = layer.forward.vec_saturated + 3 * e;
  const T* const gv = (block == kCross ? layer.crossed : layer.vectors) + receiver * 3 * stride;
  const T* const gs = layer.scalars + receiver * stride;
  const T* const v = layer.forward.vectors == nullptr
                         ? nullptr
                         : layer.forward.vectors + layer.forward.source[e] * 3 * stride;
  Vec<T> du[3] = {Vec<T>{}, Vec<T>{}, Vec<T>{}};
  for (int c = 0; c < stride; c += kLanes<T>) {
    const Vec<T> phi = load(p + c);
    const Vec<T> filter = load(w + c);
    const Vec<T> m = phi * filter;
    Vec<T> dm{};
    if (block == kScalars) {
      dm = load(gs + c);
    } else if (block == kEdges) {
      dm = load_part(layer.edges + e * width + c, width - c);
    } else {
      for (int axis = 0; axis < 3; ++axis) {
        const Vec<T> g = load(gv + axis * stride + c);
        if (block == kGate) {
          dm = fma(g, load(v + axis * stride + c), dm);
          T* const dv = to_source + (1 + axis) * stride + c;
          store(dv, fma(m, g, load(dv)));
        } else {
          dm = fma(g, broadcast(u[axis]), dm);
          du[axis] = fma(m, g, du[axis]);
        }
      }
    }
    store(dp + c, dm * filter);
    store(dw + c, dm * phi);
  }
  if (layer.vec_saturated == nullptr || (block != kDirection && block != kCross)) return;
  for (int axis = 0; axis < 3; ++axis) {
    T* const out = layer.vec_saturated + 3 * e + axis;
    *out = (block == kDirection ? T(0) : *out) + sum(du[axis]);
  }
}

template <typename T>
void message_tile_backward(const MessageLayerBackward<T>& layer, const PairFilter<T>& filter,
                           std::int64_t first, int n_rows, const Run* runs, int n_runs,
                           std::int64_t first_atom, const BackwardTile<T>& tile,
                           const MessageSums<T>& sums, T* to_sources) {
  const PackedMessage<T>& weights = *layer.forward.weights;
  const int width = weights.width;
  const std::int64_t stride = row_stride<T>(width);
  const T* const none = nullptr;
  first_linear(layer.forward, first, n_rows, tile.mlp);
  mlp_hidden(weights.phi, n_rows, tile.mlp);
  for (int slot = 0; slot < weights.n_blocks; ++slot) {
    gemm<Start::kBias>(n_rows, width, width, tile.mlp.h2, stride, 1, weights.phi_last[slot].forward,
                       weights.phi_last[slot].bias, tile.p, stride);
    for (int k = 0; k < n_runs; ++k) {
      for (int r = runs[k].first; r < runs[k].end; ++r) {
        const std::int64_t e = first + r;
        T* const dw = layer.filter + ((e - layer.first_edge) * weights.n_blocks + slot) * stride;
        T* const to_source =
            to_sources + (layer.forward.source[e] - first_atom) * kSourceRows * stride;
        edge_block_backward(layer, weights.block[slot], runs[k].receiver, e, tile.p + r * stride,
                            filter.of_edge(e, slot, weights.n_blocks, stride), tile.dp + r * stride,
                            dw, to_source);
      }
    }
    add_rows(n_rows, padded<T>(width), tile.dp, stride, sums.phi_last[slot].bias);
    gemm_tn(n_rows, width, width, tile.mlp.h2, stride, tile.dp, stride, sums.phi_last[slot].weight,
            stride);
    const T* const back = weights.phi_last[slot].backward;
    if (slot == 0) {
      gemm<Start::kZero>(n_rows, width, width, tile.dp, stride, 1, back, none, tile.mlp.d, stride);
    } else {
      gemm<Start::kSum>(n_rows, width, width, tile.dp, stride, 1, back, none, tile.mlp.d, stride);
    }
  }
  mlp_hidden_backward(weights.phi, n_rows, tile.mlp, sums.phi);
  gemm_tn(n_rows, width, width, layer.forward.edges_in + first * width, width, tile.mlp.d, stride,
          sums.phi.first.weight, stride);
  gemm<Start::kZero>(n_rows, width, width, tile.mlp.d, stride, 1, weights.phi.first.backward, none,
                     tile.p, stride);
  const bool has_residual = layer.edges != nullptr && layer.forward.adds_edges;
  for (int r = 0; r < n_rows; ++r) {
    const std::int64_t e = first + r;
    T* const share = to_sources + (layer.forward.source[e] - first_atom) * kSourceRows * stride;
    for (int c = 0; c < stride; c += kLanes<T>) {
      store(share + c, load(share + c) + load(tile.mlp.d + r * stride + c));
      Vec<T> de = load(tile.p + r * stride + c);
      if (has_residual) de += load_part(layer.edges + e * width + c, width - c);
      store_part(layer.in_edges + e * width + c, de, width - c);
    }
  }
}

// All edges of receivers first_receiver .. end_receiver. to_sources is (atoms from first_atom,
// kSourceRows, padded W), set to zero here for atoms first_atom .. end_atom.
template <typename T>
void message_rows_backward(const MessageLayerBackward<T>& layer, const PairFilter<T>& filter,
                           const MessageItem& item, const BackwardTile<T>& tile,
                           const MessageSums<T>& sums, T* to_sources) {
  const std::int64_t stride = row_stride<T>(layer.forward.weights->width);
  const std::int64_t n = (item.end_atom - item.first_atom) * kSourceRows * stride;
  for (std::int64_t at = 0; at < n; at += kLanes<T>) store(to_sources + at, Vec<T>{});
  std::int64_t receiver = item.first_receiver;
  const std::int64_t* const edge_ptr = layer.forward.edge_ptr;
  const std::int64_t end = edge_ptr[item.end_receiver];
  for (std::int64_t first = edge_ptr[item.first_receiver]; first < end; first += kMlpRows) {
    const int n_rows = end - first < kMlpRows ? static_cast<int>(end - first) : kMlpRows;
    Run runs[kMlpRows];
    const int n_runs = make_runs(edge_ptr, first, n_rows, &receiver, runs);
    message_tile_backward(layer, filter, first, n_rows, runs, n_runs, item.first_atom, tile, sums,
                          to_sources);
  }
}

}  // namespace TITO_ISA
}  // namespace tito_fast
