// CUDA kernels that count and write the edges of a batch. A warp finds the rows of its receivers,
// one after the other; the receivers of a block are a tile. Counting leaves each row's place within
// its tile, and the block that comes last adds up the tiles. Both kernels search alike, so that
// they find the same.
#pragma once

#include <cstdint>
#include <string>

#include "common/host_device.h"
#include "common/launch.h"
#include "radius_graph/radius_graph_cuda.h"
#include "radius_graph/radius_search_block.h"
#include "radius_graph/warp_block.h"

namespace tito_fast {

constexpr int kRadiusWarps = 8;
constexpr int kReceiversPerWarp = 2;
constexpr int kReceiversPerTile = kRadiusWarps * kReceiversPerWarp;

// In the workspace; zero before counting.
struct RadiusCounters {
  int problems;  // bits of status
  int n_done;    // blocks
};

// What counting leaves for writing.
struct RowPlaces {
  std::int64_t* tile_start;     // (n_tiles,)
  std::int64_t* start_in_tile;  // (n_atoms,)
  std::int64_t n_tiles;
};

template <typename T>
std::string sizes_of(const RadiusGraphInput<T>& input) {
  return "n_atoms = " + std::to_string(input.n_atoms) +
         ", n_molecules = " + std::to_string(input.n_molecules) +
         ", n_boxes = " + std::to_string(input.boxes.n_boxes);
}

template <typename T, bool kPeriodic>
struct CountEdges {
  static constexpr const char* kName = "radius_graph_count";
  static constexpr int kThreads = kRadiusWarps * kLanesOfWarp;
  struct Shared {
    Lattice<T> lattices[kPeriodic ? kRadiusWarps : 1];
    std::int64_t sums[kThreads / kLanesOfWarp];
    int counts[kReceiversPerTile];
    int is_last;
  };

  RadiusSearchOf<T, kPeriodic> search;
  RowPlaces rows;
  RadiusCounters* counters;
  std::int64_t* status;

  std::string sizes() const { return sizes_of(search.input); }

  template <typename Block>
  TITO_HOST_DEVICE void operator()(const Block& block, Shared& shared) const {
    const std::int64_t first = block.index() * kReceiversPerTile;
    Lattice<T>& lattice = shared.lattices[kPeriodic ? block.warp() : 0];
    MoleculeHere<T> here;
    int problem = problem_of_molecules(block);
    TITO_UNROLL(1)
    for (int r = 0; r < kReceiversPerWarp; ++r) {
      const int slot = block.warp() * kReceiversPerWarp + r;
      const std::int64_t atom = first + slot;
      int count = 0;
      if (atom < search.input.n_atoms) {
        if (search.move_to(block, atom, here, lattice)) {
          count = count_row(block, here, lattice, atom, problem);
        } else {
          problem |= kBadBatchPtr;
        }
      }
      if (block.lane() == 0) shared.counts[slot] = count;
    }
    if (problem != 0) block.atomic_or(&counters->problems, problem);
    block.sync();
    place_rows(block, shared, first);
    add_up_if_last(block, shared);
  }

 private:
  // What is wrong with batch_ptr and boxes; the grid's threads look at some each.
  template <typename Block>
  TITO_HOST_DEVICE int problem_of_molecules(const Block& block) const {
    const RadiusGraphInput<T>& input = search.input;
    const std::int64_t thread = block.index() * kThreads + block.thread();
    const std::int64_t n_threads = block.n_blocks() * kThreads;
    int problem = 0;
    if (thread == 0 &&
        (input.batch_ptr[0] != 0 || input.batch_ptr[input.n_molecules] != input.n_atoms)) {
      problem |= kBadBatchPtr;
    }
    TITO_UNROLL(1)
    for (std::int64_t m = thread; m < input.n_molecules; m += n_threads) {
      if (input.batch_ptr[m] > input.batch_ptr[m + 1]) problem |= kBadBatchPtr;
      if constexpr (kPeriodic) {
        double volume;
        if (m < input.boxes.n_boxes) problem |= box_problem(input.boxes.rows + 9 * m, volume);
      }
    }
    return problem;
  }

  // The number of edges of a receiver, for all lanes of a warp.
  template <typename Block>
  TITO_HOST_DEVICE int count_row(const Block& block, const MoleculeHere<T>& here,
                                 const Lattice<T>& lattice, std::int64_t atom, int& problem) const {
    const Point<T> at = load_point(search.input.positions + 3 * atom);
    const int problem_here = search.problem_of(here, lattice, at);
    problem |= problem_here;
    if (problem_here != 0) return 0;
    const int i = static_cast<int>(atom - here.start);
    int count = 0;
    search.visit_candidates(block, here, i, [&](bool is_candidate, int j, const Point<T>& from) {
      int found = 0;
      if (is_candidate) {
        search.visit_edges(here, lattice, i, at, j, from, problem,
                           [&found](const Shift&, const Point<T>&, T) { ++found; });
      }
      if constexpr (kPeriodic) {
        count += found;
      } else {
        count += n_set_bits(block.ballot(found != 0));
      }
    });
    return kPeriodic ? warp_sum(block, count) : count;
  }

  template <typename Block>
  TITO_HOST_DEVICE void place_rows(const Block& block, const Shared& shared,
                                   std::int64_t first) const {
    const int slot = block.thread();
    if (slot > kReceiversPerTile) return;
    std::int64_t before = 0;
    for (int other = 0; other < slot; ++other) before += shared.counts[other];
    if (slot == kReceiversPerTile) {
      if (block.index() < rows.n_tiles) rows.tile_start[block.index()] = before;
    } else if (first + slot < search.input.n_atoms) {
      rows.start_in_tile[first + slot] = before;
    }
  }

  template <typename Block>
  TITO_HOST_DEVICE void add_up_if_last(const Block& block, Shared& shared) const {
    block.sync();
    if (block.thread() == 0) {
      block.fence();
      shared.is_last = block.atomic_add(&counters->n_done, 1) == block.n_blocks() - 1 ? 1 : 0;
    }
    block.sync();
    if (shared.is_last == 0) return;
    block.fence();
    const std::int64_t n_each = (rows.n_tiles + kThreads - 1) / kThreads;
    const std::int64_t begin = block.thread() * n_each;
    const std::int64_t end = begin + n_each < rows.n_tiles ? begin + n_each : rows.n_tiles;
    std::int64_t sum = 0;
    for (std::int64_t tile = begin; tile < end; ++tile) sum += rows.tile_start[tile];
    std::int64_t up_to = sum;
    for (int delta = 1; delta < kLanesOfWarp; delta *= 2) {
      const std::int64_t lower = block.shuffle_up(up_to, delta);
      if (block.lane() >= delta) up_to += lower;
    }
    if (block.lane() == kLanesOfWarp - 1) shared.sums[block.warp()] = up_to;
    block.sync();
    std::int64_t before = up_to - sum;
    for (int warp = 0; warp < block.warp(); ++warp) before += shared.sums[warp];
    for (std::int64_t tile = begin; tile < end; ++tile) {
      const std::int64_t n_edges = rows.tile_start[tile];
      rows.tile_start[tile] = before;
      before += n_edges;
    }
    if (block.thread() == kThreads - 1) {
      status[0] = counters->problems;
      status[1] = before;
    }
  }
};

template <typename T, bool kPeriodic>
struct WriteEdges {
  static constexpr const char* kName = "radius_graph_fill";
  static constexpr int kThreads = kRadiusWarps * kLanesOfWarp;
  struct Shared {
    Lattice<T> lattices[kPeriodic ? kRadiusWarps : 1];
  };

  RadiusSearchOf<T, kPeriodic> search;
  RowPlaces rows;
  const std::int64_t* status;
  std::int64_t capacity;
  std::int64_t* edge_ptr;
  EdgeArrays<T> edges;

  std::string sizes() const {
    return sizes_of(search.input) + ", capacity = " + std::to_string(capacity);
  }

  template <typename Block>
  TITO_HOST_DEVICE void operator()(const Block& block, Shared& shared) const {
    const std::int64_t n_counted = status[1], n_atoms = search.input.n_atoms;
    const bool is_written = status[0] == 0 && n_counted <= capacity;
    const std::int64_t n_edges = is_written ? n_counted : 0;
    const std::int64_t thread = block.index() * kThreads + block.thread();
    const std::int64_t n_threads = block.n_blocks() * kThreads;
    for (std::int64_t e = n_edges + thread; e < capacity; e += n_threads) write_padding(e);
    if (thread == 0) edge_ptr[n_atoms] = n_edges;
    if (!is_written) {
      for (std::int64_t atom = thread; atom < n_atoms; atom += n_threads) edge_ptr[atom] = 0;
      return;
    }
    Lattice<T>& lattice = shared.lattices[kPeriodic ? block.warp() : 0];
    MoleculeHere<T> here;
    TITO_UNROLL(1)
    for (int r = 0; r < kReceiversPerWarp; ++r) {
      const std::int64_t atom =
          block.index() * kReceiversPerTile + block.warp() * kReceiversPerWarp + r;
      if (atom >= n_atoms || !search.move_to(block, atom, here, lattice)) return;
      const int n_here = write_row(block, here, lattice, atom, row_start(block, atom));
      // Loaded once more rather than kept, for want of registers.
      const std::int64_t row = row_start(block, atom);
      if (block.lane() == 0) edge_ptr[atom] = row;
      for (int e = block.lane(); e < n_here; e += kLanesOfWarp) edges.receiver[row + e] = atom;
    }
  }

 private:
  template <typename Block>
  TITO_HOST_DEVICE std::int64_t row_start(const Block& block, std::int64_t atom) const {
    return rows.tile_start[block.index()] + rows.start_in_tile[atom];
  }

  TITO_HOST_DEVICE void write_padding(std::int64_t e) const {
    edges.source[e] = edges.receiver[e] = -1;
    edges.vec[3 * e] = edges.vec[3 * e + 1] = edges.vec[3 * e + 2] = T(0);
    edges.dist[e] = T(0);
    if constexpr (kPeriodic) {
      edges.shifts[3 * e] = edges.shifts[3 * e + 1] = edges.shifts[3 * e + 2] = 0;
    }
  }

  TITO_HOST_DEVICE void write_edge(std::int64_t e, std::int64_t source, const Shift& shift,
                                   const Point<T>& vec, T squared) const {
    edges.source[e] = source;
    edges.vec[3 * e] = vec.x;
    edges.vec[3 * e + 1] = vec.y;
    edges.vec[3 * e + 2] = vec.z;
    edges.dist[e] = root(squared);
    if constexpr (kPeriodic) {
      edges.shifts[3 * e] = shift.x;
      edges.shifts[3 * e + 1] = shift.y;
      edges.shifts[3 * e + 2] = shift.z;
    }
  }

  // Without cells edges are found in order. With them, rows of keys of that order are collected
  // where the receivers belong, and sorted.
  template <typename Block>
  TITO_HOST_DEVICE int write_row(const Block& block, const MoleculeHere<T>& here,
                                 const Lattice<T>& lattice, std::int64_t atom,
                                 std::int64_t row) const {
    const Point<T> at = load_point(search.input.positions + 3 * atom);
    const int i = static_cast<int>(atom - here.start);
    const bool is_sorted = here.cells == nullptr;
    int n_found = 0, problem = 0;
    search.visit_candidates(block, here, i, [&](bool is_candidate, int j, const Point<T>& from) {
      int found = 0;
      if (is_candidate) {
        search.visit_edges(here, lattice, i, at, j, from, problem,
                           [&found](const Shift&, const Point<T>&, T) { ++found; });
      }
      int total;
      std::int64_t e = row + n_found + warp_prefix(block, found, total);
      n_found += total;
      if (found == 0) return;
      if (!is_sorted) {
        for (int q = 0; q < found; ++q) edges.receiver[e + q] = key_of(j, q);
        return;
      }
      search.visit_edges(here, lattice, i, at, j, from, problem,
                         [&](const Shift& shift, const Point<T>& vec, T squared) {
                           write_edge(e, here.start + j, shift, vec, squared);
                           ++e;
                         });
    });
    if (!is_sorted) sort_row(block, here, lattice, atom, row, n_found);
    return n_found;
  }

  // Of the q-th edge of a row with source j.
  TITO_HOST_DEVICE static std::int64_t key_of(int j, int q) {
    return static_cast<std::int64_t>(j) << 32 | q;
  }

  template <typename Block>
  TITO_HOST_DEVICE void sort_row(const Block& block, const MoleculeHere<T>& here,
                                 const Lattice<T>& lattice, std::int64_t atom, std::int64_t row,
                                 int n_found) const {
    const Point<T> at = load_point(search.input.positions + 3 * atom);
    const int i = static_cast<int>(atom - here.start);
    block.sync_warp();
    const std::int64_t* const keys = edges.receiver + row;
    for (int e = block.lane(); e < n_found; e += kLanesOfWarp) {
      const std::int64_t key = keys[e];
      int rank = 0;
      TITO_UNROLL(4)
      for (int other = 0; other < n_found; ++other) rank += keys[other] < key ? 1 : 0;
      const int j = static_cast<int>(key >> 32);
      const Point<T> from = load_point(search.input.positions + 3 * (here.start + j));
      int left = static_cast<int>(key & 0x7FFFFFFF), problem = 0;
      search.visit_edges(here, lattice, i, at, j, from, problem,
                         [&](const Shift& shift, const Point<T>& vec, T squared) {
                           if (left-- == 0) {
                             write_edge(row + rank, here.start + j, shift, vec, squared);
                           }
                         });
    }
    block.sync_warp();
  }
};

}  // namespace tito_fast
