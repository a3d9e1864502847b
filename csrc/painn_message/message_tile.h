// The forward of a message for a range of receivers. Letters: i receiver, j source, e edge, r row
// of the tile, c column of features.
#pragma once

#include "painn_message/message_filter.h"

namespace tito_fast {
namespace TITO_ISA {

// Sums over the sources of one receiver, rows of padded W features. Each is added to edge by edge,
// so that no cut of the edges into tiles shows in the result.
enum Sum { kGateSum = 0, kDirectionSum = 3, kCrossSum = 6, kScalarSum = 9, kSumRows = 10 };

// What all tiles of one layer share. Rows of atoms are padded; rows of edges in torch's memory need
// not be.
template <typename T>
struct MessageLayer {
  const PackedMessage<T>* weights;
  const std::int64_t* edge_ptr;
  const std::int64_t* source;
  const T* source_share;  // (n_atoms, padded W)
  const T* vectors;       // (n_atoms, 3, padded W)
  const T* vec_saturated;
  const T* edges_in;    // (n_edges, W), rows edge_row apart; read for the sum, and for its share if
                        // edge_share is null
  const T* edge_share;  // (n_edges, padded W): the edges' share of phi's first linear, if computed
                        // before
  T* edges_out;         // may be edges_in
  std::int64_t edge_row;
  bool adds_edges;
  T* sums;  // (n_atoms, kSumRows, padded W)
};

// Where the filter of an edge is: in a row of its pair.
template <typename T>
struct PairFilter {
  const T* rows;  // (pairs from first_pair, n_blocks, padded W)
  const std::int64_t* edge_pair;
  std::int64_t first_pair;

  const T* of_edge(std::int64_t e, int slot, int n_blocks, std::int64_t stride) const {
    return rows + ((edge_pair[e] - first_pair) * n_blocks + slot) * stride;
  }
};

template <typename T>
TITO_INLINE Vec<T> load_part(const T* row, int n) {
  if (n >= kLanes<T>) return load(row);
  Vec<T> result{};
  for (int k = 0; k < n; ++k) result[k] = row[k];
  return result;
}

template <typename T>
TITO_INLINE void store_part(T* row, Vec<T> value, int n) {
  if (n >= kLanes<T>) return store(row, value);
  for (int k = 0; k < n; ++k) row[k] = value[k];
}

// Edges first .. first + n_rows of the tile, all of receiver i.
struct Run {
  std::int64_t receiver;
  int first;
  int end;
};

// Cuts the edges of a tile into runs of one receiver; `receiver` is that of the first edge, and
// moves on.
inline int make_runs(const std::int64_t* edge_ptr, std::int64_t first_edge, int n_rows,
                     std::int64_t* receiver, Run* runs) {
  int n_runs = 0;
  int row = 0;
  while (row < n_rows) {
    while (edge_ptr[*receiver + 1] <= first_edge + row) ++*receiver;
    const std::int64_t left = edge_ptr[*receiver + 1] - (first_edge + row);
    const int end = left < n_rows - row ? row + static_cast<int>(left) : n_rows;
    runs[n_runs++] = {*receiver, row, end};
    row = end;
  }
  return n_runs;
}

// One receiver's part of a block: products p (rows of the tile) times the filter, summed.
template <typename T>
TITO_INLINE void add_run(const MessageLayer<T>& layer, const PairFilter<T>& filter, int slot,
                         const Run& run, std::int64_t first_edge, const T* p) {
  const PackedMessage<T>& weights = *layer.weights;
  const std::int64_t stride = row_stride<T>(weights.width);
  const Block block = weights.block[slot];
  T* const sums = layer.sums + run.receiver * kSumRows * stride;
  const auto filter_row = [&](int r) {
    return filter.of_edge(first_edge + r, slot, weights.n_blocks, stride);
  };
  if (block == kEdges) {
    for (int r = run.first; r < run.end; ++r) {
      const T* const w = filter_row(r);
      const T* const in = layer.edges_in + (first_edge + r) * layer.edge_row;
      T* const out = layer.edges_out + (first_edge + r) * layer.edge_row;
      for (int c = 0; c < weights.width; c += kLanes<T>) {
        const int n = weights.width - c;
        const Vec<T> product = load(p + r * stride + c) * load(w + c);
        store_part(out + c, layer.adds_edges ? load_part(in + c, n) + product : product, n);
      }
    }
    return;
  }
  if (block == kScalars) {
    T* const sum = sums + kScalarSum * stride;
    for (int c = 0; c < stride; c += kLanes<T>) {
      Vec<T> total = load(sum + c);
      for (int r = run.first; r < run.end; ++r) {
        total = fma(load(p + r * stride + c), load(filter_row(r) + c), total);
      }
      store(sum + c, total);
    }
    return;
  }
  if (block == kGate) {
    T* const sum = sums + kGateSum * stride;
    for (int c = 0; c < stride; c += kLanes<T>) {
      Vec<T> x = load(sum + c);
      Vec<T> y = load(sum + stride + c);
      Vec<T> z = load(sum + 2 * stride + c);
      for (int r = run.first; r < run.end; ++r) {
        const Vec<T> product = load(p + r * stride + c) * load(filter_row(r) + c);
        const T* const v = layer.vectors + layer.source[first_edge + r] * 3 * stride + c;
        x = fma(product, load(v), x);
        y = fma(product, load(v + stride), y);
        z = fma(product, load(v + 2 * stride), z);
      }
      store(sum + c, x);
      store(sum + stride + c, y);
      store(sum + 2 * stride + c, z);
    }
    return;
  }
  T* const sum = sums + (block == kDirection ? kDirectionSum : kCrossSum) * stride;
  for (int c = 0; c < stride; c += kLanes<T>) {
    Vec<T> x = load(sum + c);
    Vec<T> y = load(sum + stride + c);
    Vec<T> z = load(sum + 2 * stride + c);
    for (int r = run.first; r < run.end; ++r) {
      const Vec<T> product = load(p + r * stride + c) * load(filter_row(r) + c);
      const T* const u = layer.vec_saturated + (first_edge + r) * 3;
      x = fma(product, broadcast(u[0]), x);
      y = fma(product, broadcast(u[1]), y);
      z = fma(product, broadcast(u[2]), z);
    }
    store(sum + c, x);
    store(sum + stride + c, y);
    store(sum + 2 * stride + c, z);
  }
}

// The block of the edges behind a bottleneck: edges_out = edges_in + expand(p w). Rows of edges are
// padded; p is overwritten.
template <typename T>
void expand_edges(const MessageLayer<T>& layer, const PairFilter<T>& filter, int slot, int n_rows,
                  std::int64_t first_edge, T* p) {
  const PackedMessage<T>& weights = *layer.weights;
  const std::int64_t stride = row_stride<T>(weights.width);
  const PackedLinear<T>& expand = weights.expand_edges;
  T* const out = layer.edges_out + first_edge * layer.edge_row;
  for (int r = 0; r < n_rows; ++r) {
    const T* const w = filter.of_edge(first_edge + r, slot, weights.n_blocks, stride);
    for (int c = 0; c < stride; c += kLanes<T>) {
      store(p + r * stride + c, load(p + r * stride + c) * load(w + c));
    }
    const T* const in = layer.edges_in + (first_edge + r) * layer.edge_row;
    for (int c = 0; c < padded<T>(expand.n_out); c += kLanes<T>) {
      store(out + r * layer.edge_row + c, load(in + c) + load(expand.bias + c));
    }
  }
  gemm<Start::kSum>(n_rows, expand.n_in, expand.n_out, p, stride, 1, expand.forward,
                    static_cast<const T*>(nullptr), out, layer.edge_row);
}

// Rows of a1 = the sources' shares of phi's first linear, and the edges' where they were computed
// before.
template <typename T>
void gather_shares(const MessageLayer<T>& layer, std::int64_t first_edge, int n_rows, T* a1) {
  const std::int64_t stride = row_stride<T>(layer.weights->width);
  for (int r = 0; r < n_rows; ++r) {
    const T* const share = layer.source_share + layer.source[first_edge + r] * stride;
    const T* const edge =
        layer.edge_share == nullptr ? nullptr : layer.edge_share + (first_edge + r) * stride;
    T* const row = a1 + r * stride;
    for (int c = 0; c < stride; c += kLanes<T>) {
      store(row + c, edge == nullptr ? load(share + c) : load(share + c) + load(edge + c));
    }
  }
}

// Fills tile.a1 with the first linear of phi for n_rows edges.
template <typename T>
void first_linear(const MessageLayer<T>& layer, std::int64_t first_edge, int n_rows,
                  const MlpTile<T>& tile) {
  const PackedMessage<T>& weights = *layer.weights;
  const std::int64_t stride = row_stride<T>(weights.width);
  gather_shares(layer, first_edge, n_rows, tile.a1);
  if (layer.edge_share != nullptr) return;
  const PackedLinear<T>& first = weights.phi.first;
  gemm<Start::kSum>(n_rows, first.n_in, first.n_out, layer.edges_in + first_edge * layer.edge_row,
                    layer.edge_row, 1, first.forward, static_cast<const T*>(nullptr), tile.a1,
                    stride);
}

template <typename T>
void clear_sums(const MessageLayer<T>& layer, std::int64_t first_receiver,
                std::int64_t end_receiver) {
  const std::int64_t row = kSumRows * row_stride<T>(layer.weights->width);
  for (std::int64_t at = first_receiver * row; at < end_receiver * row; at += kLanes<T>) {
    store(layer.sums + at, Vec<T>{});
  }
}

// A block of a tile of edges into the sums, or into the edges.
template <typename T>
TITO_INLINE void add_block(const MessageLayer<T>& layer, const PairFilter<T>& filter, int slot,
                           int n_rows, const Run* runs, int n_runs, std::int64_t first_edge, T* p) {
  if (layer.weights->block[slot] == kEdges && layer.weights->expand_edges.forward != nullptr) {
    expand_edges(layer, filter, slot, n_rows, first_edge, p);
    return;
  }
  for (int k = 0; k < n_runs; ++k) add_run(layer, filter, slot, runs[k], first_edge, p);
}

// Sums over the edges of receivers first_receiver .. end_receiver, whose rows of sums are set to
// zero first, and their new edge features. p is (kMlpRows, padded W).
template <typename T>
void message_rows(const MessageLayer<T>& layer, const PairFilter<T>& filter,
                  std::int64_t first_receiver, std::int64_t end_receiver, const MlpTile<T>& tile,
                  T* p) {
  const PackedMessage<T>& weights = *layer.weights;
  const std::int64_t stride = row_stride<T>(weights.width);
  clear_sums(layer, first_receiver, end_receiver);
  std::int64_t receiver = first_receiver;
  const std::int64_t end_edge = layer.edge_ptr[end_receiver];
  for (std::int64_t first = layer.edge_ptr[first_receiver]; first < end_edge; first += kMlpRows) {
    const int n_rows = end_edge - first < kMlpRows ? static_cast<int>(end_edge - first) : kMlpRows;
    Run runs[kMlpRows];
    const int n_runs = make_runs(layer.edge_ptr, first, n_rows, &receiver, runs);
    first_linear(layer, first, n_rows, tile);
    mlp_hidden(weights.phi, n_rows, tile);
    for (int slot = 0; slot < weights.n_blocks; ++slot) {
      gemm<Start::kBias>(n_rows, weights.width, weights.width, tile.h2, stride, 1,
                         weights.phi_last[slot].forward, weights.phi_last[slot].bias, p, stride);
      add_block(layer, filter, slot, n_rows, runs, n_runs, first, p);
    }
  }
}

// dv = gate sum + direction sum + cross sum x v of atom i, for the features c .. c + lanes; v is
// null without vectors.
template <typename T>
TITO_INLINE void vector_sum(const T* sums, const T* v, std::int64_t stride, std::int64_t c,
                            Vec<T>* dv) {
  for (int axis = 0; axis < 3; ++axis) {
    dv[axis] = load(sums + (kDirectionSum + axis) * stride + c);
  }
  if (v == nullptr) return;
  Vec<T> crossed[3];
  Vec<T> vectors[3];
  for (int axis = 0; axis < 3; ++axis) {
    dv[axis] += load(sums + (kGateSum + axis) * stride + c);
    crossed[axis] = load(sums + (kCrossSum + axis) * stride + c);
    vectors[axis] = load(v + axis * stride + c);
  }
  for (int axis = 0; axis < 3; ++axis) {
    const int next = (axis + 1) % 3;
    const int last = (axis + 2) % 3;
    dv[axis] += crossed[next] * vectors[last] - crossed[last] * vectors[next];
  }
}

}  // namespace TITO_ISA
}  // namespace tito_fast
