// A message's weights as the tiles read them. "Blocks" are the five outputs of phi and of the
// filter; a "slot" is the place of a block among those that are computed.
#pragma once

#include <cstdint>

#include "common/mlp.h"
#include "painn_message/painn_message.h"

namespace tito_fast {
namespace TITO_ISA {

enum Block { kGate, kDirection, kScalars, kEdges, kCross };
constexpr int kMaxBlocks = 5;

template <typename T>
struct PackedMessage {
  int width;
  int n_blocks;
  Block block[kMaxBlocks];  // by slot
  bool has_vectors;
  bool has_edges;
  double distance_length;
  PackedLinear<T>
      source;        // share of phi's first linear that reads the source's scalars, with the bias
  PackedMlp<T> phi;  // first: the share that reads the edge; last: by slot, below
  PackedMlp<T> filter;
  PackedLinear<T> phi_last[kMaxBlocks];
  PackedLinear<T> filter_last[kMaxBlocks];
  PackedLinear<T> expand_edges;  // from the width to the edges' features; forward is null without
};

// Sums of the gradients of all of a message's weights, as one thread collects them.
template <typename T>
struct MessageSums {
  MlpSums<T> phi;
  MlpSums<T> filter;
  LinearSums<T> phi_last[kMaxBlocks];
  LinearSums<T> filter_last[kMaxBlocks];
};

template <typename T>
constexpr std::int64_t row_stride(int width) {
  return padded<T>(width);
}

inline int wanted_blocks(bool has_vectors, bool has_edges, Block* blocks) {
  int n = 0;
  if (has_vectors) blocks[n++] = kGate;
  blocks[n++] = kDirection;
  blocks[n++] = kScalars;
  if (has_edges) blocks[n++] = kEdges;
  if (has_vectors) blocks[n++] = kCross;
  return n;
}

// Rows `block` of the last linear of phi or of the filter.
template <typename T>
Linear<T> block_of(const Linear<T>& last, int width, Block block) {
  const std::int64_t first = std::int64_t{block} * width;
  return {last.weight + first * last.weight_stride, last.bias + first, last.weight_stride,
          last.n_in, width};
}

template <typename T>
Linear<T> source_share(const Linear<T>& first, int width) {
  return {first.weight, first.bias, first.weight_stride, width, first.n_out};
}

template <typename T>
Linear<T> edge_share(const Linear<T>& first, int width) {
  return {first.weight + width, nullptr, first.weight_stride, width, first.n_out};
}

template <typename T>
PackedMessage<T> pack_message(const MessageShape& shape, const Mlp<const T>& phi,
                              const Mlp<const T>& filter, bool wants_backward, Workspace& memory) {
  PackedMessage<T> packed{};
  const int width = shape.width;
  packed.width = width;
  packed.has_vectors = shape.has_vectors;
  packed.has_edges = shape.has_edges;
  packed.distance_length = shape.distance_length;
  packed.n_blocks = wanted_blocks(shape.has_vectors, shape.has_edges, packed.block);
  packed.source = pack_linear(source_share(phi.first, width), true, wants_backward, memory);
  Mlp<const T> edge_phi = phi;
  edge_phi.first = edge_share(phi.first, width);
  packed.phi = pack_mlp_hidden(edge_phi, wants_backward, memory);
  packed.filter = pack_mlp_hidden(filter, wants_backward, memory);
  for (int slot = 0; slot < packed.n_blocks; ++slot) {
    const Block block = packed.block[slot];
    packed.phi_last[slot] =
        pack_linear(block_of(phi.last, width, block), false, wants_backward, memory);
    packed.filter_last[slot] =
        pack_linear(block_of(filter.last, width, block), false, wants_backward, memory);
  }
  return packed;
}

template <typename T>
MessageSums<T> take_sums(const PackedMessage<T>& message, Workspace& memory) {
  MessageSums<T> sums{};
  sums.phi = take_hidden_sums(message.phi, memory);
  sums.filter = take_hidden_sums(message.filter, memory);
  for (int slot = 0; slot < message.n_blocks; ++slot) {
    sums.phi_last[slot] = take_sums<T>(message.width, message.width, memory);
    sums.filter_last[slot] = take_sums<T>(message.width, message.width, memory);
  }
  return sums;
}

}  // namespace TITO_ISA
}  // namespace tito_fast
