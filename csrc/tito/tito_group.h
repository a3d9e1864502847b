// Some molecules that are evaluated together: by one thread, or by all threads as a team.
// Everything is numbered within the group, and lies in one block of memory.
#pragma once

#include "painn_message/message_spline.h"
#include "painn_message/message_tile.h"
#include "tito/tito_packed.h"

namespace tito_fast {
namespace TITO_ISA {

// The threads that share a group. Nothing that they compute depends on how many they are.
struct Team {
  int rank;
  int size;

  void barrier() const {
    if (size > 1) {
#pragma omp barrier
    }
  }
  bool is_first() const { return rank == 0; }
};

struct GroupSize {
  std::int64_t n_molecules;
  std::int64_t n_atoms;
  std::int64_t n_edges;  // of the complete graphs
};

// Molecules first_molecule .. end_molecule of a batch.
struct GroupPlace {
  std::int64_t first_molecule;
  std::int64_t end_molecule;
  std::int64_t first_edge;  // of the batch
};

template <typename T>
struct Group {
  GroupSize size;
  GroupPlace place;
  std::int64_t first_atom;  // of the batch
  // The graph: complete, or what a cutoff leaves of it.
  std::int64_t n_edges;
  std::int64_t n_pairs;
  std::int64_t* molecule_ptr;  // (n_molecules + 1)
  std::int64_t* molecule_idx;  // (n_atoms)
  std::int64_t* edge_ptr;      // (n_atoms + 1)
  std::int64_t* source;        // (n_edges)
  std::int64_t* edge_type;     // (n_edges)
  std::int64_t* edge_pair;     // (n_edges)
  std::int64_t* pair_atoms;    // (n_pairs, 2)
  // Geometry at some positions.
  T* vec_saturated;  // (n_edges, 3)
  T* pair_dist;      // (n_pairs)
  Tap<T>* taps;      // (n_pairs)
  // Rows of features, padded: of atoms ...
  T* scalars;         // (n_atoms, F)
  T* vectors[2];      // (n_atoms, 3, F): a layer reads one and writes the other
  T* start_vectors;   // (n_atoms, 3, F)
  T* reduced;         // (n_atoms, 3, W): vectors behind a bottleneck
  T* reduced_sum;     // (n_atoms, 3, W)
  T* source_share;    // (n_atoms, W)
  T* sums;            // (n_atoms, kSumRows, W)
  T* projection;      // (n_atoms, F)
  T* molecule_share;  // (n_molecules, F)
  // ... of edges and pairs
  T* edges;        // (n_edges, F)
  T* condition;    // (n_edges, F)
  T* edge_share;   // (n_edges, W)
  T* filter_rows;  // (n_pairs, blocks, W)
  T* readout;      // (n_atoms, 3)
};

// What one thread needs of its own.
template <typename T>
struct GroupTile {
  MlpTile<T> message;
  T* p;
  MlpTile<T> node;
  PainnUpdateTile<T> update;
#ifdef __AVX512BF16__
  HalfTile half;
#endif
};

template <typename T>
Group<T> take_group(const PackedTito<T>& net, const GroupSize& size, Workspace& memory) {
  const std::int64_t n = size.n_atoms;
  const std::int64_t e = size.n_edges;
  const std::int64_t p = e / 2;
  const std::int64_t features = row_stride<T>(net.shape.n_features);
  const std::int64_t width = row_stride<T>(net.shape.width);
  Group<T> group{};
  group.size = size;
  group.molecule_ptr = memory.take<std::int64_t>(size.n_molecules + 1);
  group.molecule_idx = memory.take<std::int64_t>(n);
  group.edge_ptr = memory.take<std::int64_t>(n + 1);
  group.source = memory.take<std::int64_t>(e);
  group.edge_type = memory.take<std::int64_t>(e);
  group.edge_pair = memory.take<std::int64_t>(e);
  group.pair_atoms = memory.take<std::int64_t>(2 * p);
  group.vec_saturated = memory.take<T>(3 * e);
  group.pair_dist = memory.take<T>(p);
  group.taps = memory.take<Tap<T>>(p);
  group.scalars = memory.take<T>(n * features);
  group.vectors[0] = memory.take<T>(3 * n * features);
  group.vectors[1] = memory.take<T>(3 * n * features);
  group.start_vectors = memory.take<T>(3 * n * features);
  if (net.shape.is_reduced) {
    group.reduced = memory.take<T>(3 * n * width);
    group.reduced_sum = memory.take<T>(3 * n * width);
  }
  group.source_share = memory.take<T>(n * width);
  group.sums = memory.take<T>(n * kSumRows * width);
  group.projection = memory.take<T>(n * features);
  group.molecule_share = memory.take<T>(size.n_molecules * features);
  group.edges = memory.take<T>(e * features);
  group.condition = memory.take<T>(e * features);
  group.edge_share = memory.take<T>(e * width);
  group.filter_rows = memory.take<T>(p * kMaxBlocks * width);
  group.readout = memory.take<T>(3 * n);
  return group;
}

template <typename T>
GroupTile<T> take_group_tile(const PackedTito<T>& net, Workspace& memory) {
  const std::int64_t n = kMlpRows * row_stride<T>(net.shape.width);
  GroupTile<T> tile{};
  tile.message = take_tile<T>(net.shape.width, false, memory);
  tile.p = memory.take<T>(n);
  tile.node = take_tile<T>(net.shape.n_features, false, memory);
  tile.update = take_painn_update_tile(net.model_layers[0].update, false, memory);
#ifdef __AVX512BF16__
  tile.half = take_half_tile(net.shape.n_features, net.shape.width, memory);
#endif
  return tile;
}

// Part `team.rank` of the receivers, cut where the edges are about equal.
template <typename T>
void team_receivers(const Team& team, const Group<T>& group, std::int64_t* first,
                    std::int64_t* end) {
  const auto cut = [&](int rank) {
    if (rank == team.size) return group.size.n_atoms;
    const std::int64_t wanted = group.n_edges * rank / team.size;
    std::int64_t i = 0;
    while (i < group.size.n_atoms && group.edge_ptr[i] < wanted) ++i;
    return i;
  };
  *first = cut(team.rank);
  *end = cut(team.rank + 1);
}

inline void team_part(const Team& team, std::int64_t n, std::int64_t* first, std::int64_t* end) {
  *first = n * team.rank / team.size;
  *end = n * (team.rank + 1) / team.size;
}

template <typename T>
TITO_INLINE T squared_distance(const T* a, const T* b) {
  const T x = a[0] - b[0];
  const T y = a[1] - b[1];
  const T z = a[2] - b[2];
  return x * x + y * y + z * z;
}

// Whether an edge that is no bond is in the graph: shorter than the cutoff in one of two frames.
template <typename T>
struct EdgeRule {
  double cutoff;  // 0: every edge
  const T* one;   // (n_atoms of the group, 3)
  const T* two;

  bool keeps(std::int64_t i, std::int64_t j) const {
    if (cutoff == 0.0) return true;
    const T limit = static_cast<T>(cutoff);
    return static_cast<T>(__builtin_sqrt(squared_distance(one + 3 * i, one + 3 * j))) < limit ||
           static_cast<T>(__builtin_sqrt(squared_distance(two + 3 * i, two + 3 * j))) < limit;
  }
};

// Pair of the edge i <- j, j < i: that of the edge j <- i, which came before. Sources are sorted.
template <typename T>
std::int64_t pair_of_reverse(const Group<T>& group, std::int64_t i, std::int64_t j) {
  std::int64_t low = group.edge_ptr[j];
  std::int64_t high = group.edge_ptr[j + 1];
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    if (group.source[middle] <= i) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return group.edge_pair[low];
}

// Fills the graph of a group, by one thread. Pairs are numbered by their lower atom, then the
// higher.
template <typename T>
void make_graph(const TitoBatch& batch, const EdgeRule<T>& rule, Group<T>& group) {
  std::int64_t e = 0;
  std::int64_t n_pairs = 0;
  const std::int64_t* types = batch.edge_type + group.place.first_edge;
  for (std::int64_t m = 0; m < group.size.n_molecules; ++m) {
    const std::int64_t first = group.molecule_ptr[m];
    const std::int64_t n = group.molecule_ptr[m + 1] - first;
    // Of the edge first + i <- first + j.
    const auto type_of = [&](std::int64_t i, std::int64_t j) {
      return types[i * (n - 1) + (j < i ? j : j - 1)];
    };
    for (std::int64_t i = 0; i < n; ++i) {
      group.edge_ptr[first + i] = e;
      for (std::int64_t j = 0; j < n; ++j) {
        if (j == i) continue;
        const std::int64_t type = type_of(i, j);
        // Either direction of a bond keeps both, so that edges come in pairs.
        const bool is_bond = type > 0 || type_of(j, i) > 0;
        if (!is_bond && !rule.keeps(first + i, first + j)) continue;
        group.source[e] = first + j;
        group.edge_type[e] = type;
        if (i < j) {
          group.pair_atoms[2 * n_pairs] = first + i;
          group.pair_atoms[2 * n_pairs + 1] = first + j;
          group.edge_pair[e] = n_pairs++;
        } else {
          group.edge_pair[e] = pair_of_reverse(group, first + i, first + j);
        }
        ++e;
      }
    }
    types += n > 0 ? n * (n - 1) : 0;
  }
  group.edge_ptr[group.size.n_atoms] = e;
  group.n_edges = e;
  group.n_pairs = n_pairs;
}

// Distances and saturated vectors at positions (n_atoms, 3), and taps where n_knots > 0.
template <typename T>
void fill_geometry(const Team& team, const T* positions, double length, int n_knots,
                   const Group<T>& group) {
  std::int64_t first = 0;
  std::int64_t end = 0;
  team_receivers(team, group, &first, &end);
  for (std::int64_t i = first; i < end; ++i) {
    for (std::int64_t e = group.edge_ptr[i]; e < group.edge_ptr[i + 1]; ++e) {
      const T* const from = positions + 3 * group.source[e];
      const T* const to = positions + 3 * i;
      const T dist = static_cast<T>(__builtin_sqrt(squared_distance(from, to)));
      for (int axis = 0; axis < 3; ++axis) {
        group.vec_saturated[3 * e + axis] = (from[axis] - to[axis]) / (T(1) + dist);
      }
    }
  }
  team_part(team, group.n_pairs, &first, &end);
  for (std::int64_t p = first; p < end; ++p) {
    const T dist = static_cast<T>(__builtin_sqrt(squared_distance(
        positions + 3 * group.pair_atoms[2 * p], positions + 3 * group.pair_atoms[2 * p + 1])));
    group.pair_dist[p] = dist;
    if (n_knots > 0) {
      group.taps[p] = spline_tap<T>(static_cast<double>(dist) / (2.0 * length) * n_knots, n_knots);
    }
  }
}

}  // namespace TITO_ISA
}  // namespace tito_fast
