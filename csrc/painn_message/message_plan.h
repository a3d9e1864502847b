// How the edges of a batch are cut for the message's kernels; follows from the graph alone, never
// from the number of threads, since the order of sums hangs on it.
#pragma once

#include <cstdint>

namespace tito_fast {

// Receivers that one thread works on at a time: whole molecules, or a part of one. Atoms: those of
// its molecules.
struct MessageItem {
  std::int64_t first_receiver;
  std::int64_t end_receiver;
  std::int64_t first_atom;
  std::int64_t end_atom;
};

// Whole molecules whose filters are in memory at the same time.
struct MessageWave {
  std::int64_t first_item;
  std::int64_t end_item;
  std::int64_t first_atom;
  std::int64_t end_atom;
  std::int64_t first_edge;
  std::int64_t end_edge;
  std::int64_t first_pair;
  std::int64_t end_pair;
};

struct MessagePlan {
  const MessageItem* items;
  const MessageWave* waves;
  std::int64_t n_waves;
  std::int64_t most_pairs;  // of a wave
  std::int64_t most_edges;
  std::int64_t most_source_atoms;  // of a wave: atoms of its items, counted for each item
  int n_collectors;                // of weight gradients
};

}  // namespace tito_fast
