// How a warp of a CUDA kernel finds the edges of one receiver: its lanes test one candidate each,
// by the test of radius_graph_isa.cpp, to the last bit. Letters: i receiver, j source (both within
// the molecule), k place in search order, m molecule.
#pragma once

#include <cmath>
#include <cstdint>

#include "common/host_device.h"
#include "common/launch.h"
#include "radius_graph/radius_cells_block.h"
#include "radius_graph/radius_graph_cuda.h"
#include "radius_graph/radius_lattice_block.h"
#include "radius_graph/warp_block.h"

namespace tito_fast {

template <typename T>
struct Point {
  T x, y, z;
};

template <typename T>
TITO_HOST_DEVICE Point<T> load_point(const T* from) {
  return {from[0], from[1], from[2]};
}

TITO_HOST_DEVICE float root(float x) { return sqrtf(x); }
TITO_HOST_DEVICE double root(double x) { return sqrt(x); }

template <typename T>
TITO_HOST_DEVICE T squared_length(const Point<T>& a) {
  return (a.x * a.x + a.y * a.y) + a.z * a.z;
}

// The last molecule that starts at or before atom i, or -1; by all lanes of a warp. 32 molecules
// are looked at at once.
template <typename Block>
TITO_HOST_DEVICE std::int64_t find_molecule(const Block& block, const std::int64_t* batch_ptr,
                                            std::int64_t n_molecules, std::int64_t i) {
  std::int64_t low = 0, n = n_molecules;
  while (n > 0) {
    const std::int64_t step = (n + kLanesOfWarp - 1) / kLanesOfWarp;
    const std::int64_t offset = block.lane() * step;
    const bool is_before = offset < n && batch_ptr[low + offset] <= i;
    const int n_before = n_set_bits(block.ballot(is_before));
    if (n_before == 0) return -1;
    const std::int64_t skipped = (n_before - 1) * step;
    low += skipped;
    if (step == 1) return low;
    n = n - skipped < step ? n - skipped : step;
  }
  return -1;
}

// A warp's view of the molecule that it is at. Uniform.
template <typename T>
struct MoleculeHere {
  std::int64_t start = 0;
  int n_atoms = 0;
  int box_problem = 0;
  const CellTable* cells = nullptr;  // null: all atoms are candidates

  TITO_HOST_DEVICE bool contains(std::int64_t atom) const {
    return start <= atom && atom - start < n_atoms;
  }
};

// What the search of every receiver needs.
template <typename T, bool kPeriodic>
struct RadiusSearchOf {
  RadiusGraphInput<T> input;
  T limit;  // of squared distances
  CellArrays<T> cells;

  // Moves to the molecule of an atom, unless the warp is there; false if there is none.
  template <typename Block>
  TITO_HOST_DEVICE bool move_to(const Block& block, std::int64_t atom, MoleculeHere<T>& here,
                                Lattice<T>& lattice) const {
    if (here.contains(atom)) return true;
    const std::int64_t m = find_molecule(block, input.batch_ptr, input.n_molecules, atom);
    if (m < 0) return false;
    const std::int64_t start = input.batch_ptr[m], end = input.batch_ptr[m + 1];
    if (start < 0 || end > input.n_atoms || atom < start || atom >= end) return false;
    here.start = start;
    here.n_atoms = static_cast<int>(end - start);
    here.cells =
        cells.tables != nullptr && cells.tables[m].is_used != 0 ? cells.tables + m : nullptr;
    if constexpr (kPeriodic) {
      const T* const box = input.boxes.rows + (input.boxes.n_boxes == 1 ? 0 : 9 * m);
      here.box_problem =
          load_lattice(block, box, static_cast<double>(static_cast<T>(input.cutoff)), lattice);
    }
    return true;
  }

  // What is wrong with a receiver, which then has no edges: bits of status.
  TITO_HOST_DEVICE int problem_of(const MoleculeHere<T>& here, const Lattice<T>& lattice,
                                  const Point<T>& at) const {
    if (!(is_finite(at.x) && is_finite(at.y) && is_finite(at.z))) return kBadPosition;
    if constexpr (kPeriodic) {
      if (here.box_problem != 0) return here.box_problem;
      const Vector3 p = {static_cast<double>(at.x), static_cast<double>(at.y),
                         static_cast<double>(at.z)};
      if (is_distant(fractions(lattice, p))) return kDistantPosition;
    }
    return 0;
  }

  // Calls visit(is_candidate, j, p_j), all lanes of the warp together, until every candidate of
  // receiver i was some lane's. Where the molecule has no cells they come in order.
  template <typename Block, typename Visit>
  TITO_HOST_DEVICE void visit_candidates(const Block& block, const MoleculeHere<T>& here, int i,
                                         const Visit& visit) const {
    if (here.cells == nullptr) {
      const int n = here.n_atoms;
      for (int base = 0; base < n; base += kLanesOfWarp) {
        const int j = base + block.lane();
        const bool is_inside = j < n;
        const std::int64_t atom = here.start + (is_inside ? j : 0);
        visit(is_inside, j, load_point(input.positions + 3 * atom));
      }
      return;
    }
    const int* const cell_start =
        cells.cell_start + first_cell(here.start, here.cells - cells.tables);
    const Segment own = segment_of_lane<kPeriodic>(*here.cells, cell_start,
                                                   cells.cell_of[here.start + i], block.lane());
    unsigned left = block.ballot(own.begin < own.end);
    while (left != 0) {
      const int from = lowest_set_bit(left);
      left &= left - 1;
      const int begin = block.shuffle(own.begin, from), end = block.shuffle(own.end, from);
      for (int base = begin; base < end; base += kLanesOfWarp) {
        const int k = base + block.lane();
        const bool is_inside = k < end;
        const std::int64_t place = here.start + (is_inside ? k : begin);
        visit(is_inside, cells.order[place], load_point(cells.positions + 3 * place));
      }
    }
  }

  // Calls visit(shift, vec, squared) for the edges from j, of the images in order. `problem` gets
  // bits of status.
  template <typename Visit>
  TITO_HOST_DEVICE void visit_edges(const MoleculeHere<T>& here, const Lattice<T>& lattice, int i,
                                    const Point<T>& at, int j, const Point<T>& from, int& problem,
                                    const Visit& visit) const {
    const Point<T> apart = {from.x - at.x, from.y - at.y, from.z - at.z};
    if constexpr (!kPeriodic) {
      const T squared = squared_length(apart);
      if (squared < limit && j != i) visit(Shift{0, 0, 0}, apart, squared);
      return;
    }
    const ImageRange images = find_images(lattice, distance_vector(at, from));
    if (images.is_empty()) return;
    if (!(images.n_images() * here.n_atoms < kMostImages)) {
      problem |= kTooManyImages;
      return;
    }
    Shift shift = images.low;
    TITO_UNROLL(1)
    while (shift.x < images.end.x) {
      const Point<T> vec = shifted(apart, shift, lattice);
      const T squared = squared_length(vec);
      const bool is_self = j == i && shift.x == 0 && shift.y == 0 && shift.z == 0;
      if (squared < limit && !is_self) visit(shift, vec, squared);
      if (++shift.z < images.end.z) continue;
      shift.z = images.low.z;
      if (++shift.y < images.end.y) continue;
      shift.y = images.low.y;
      ++shift.x;
    }
  }

  TITO_HOST_DEVICE static Vector3 distance_vector(const Point<T>& at, const Point<T>& from) {
    return {static_cast<double>(from.x) - static_cast<double>(at.x),
            static_cast<double>(from.y) - static_cast<double>(at.y),
            static_cast<double>(from.z) - static_cast<double>(at.z)};
  }

  TITO_HOST_DEVICE static Point<T> shifted(const Point<T>& apart, const Shift& shift,
                                           const Lattice<T>& lattice) {
    const T a = static_cast<T>(shift.x), b = static_cast<T>(shift.y), c = static_cast<T>(shift.z);
    const T* const box = lattice.rows;
    return {apart.x + ((a * box[0] + b * box[3]) + c * box[6]),
            apart.y + ((a * box[1] + b * box[4]) + c * box[7]),
            apart.z + ((a * box[2] + b * box[5]) + c * box[8])};
  }
};

}  // namespace tito_fast
