// Cells of large molecules in CUDA kernels, as sites.cpp makes them, but of wrapped atoms without
// images in a periodic box: cells at opposite faces are neighbours there.
// Letters: i atom of a molecule, m molecule, k place in search order (cell by cell).
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "common/host_device.h"
#include "common/launch.h"
#include "radius_graph/radius_lattice_block.h"
#include "radius_graph/warp_block.h"

namespace tito_fast {

// Smaller molecules are tested one against all.
constexpr int kFewestAtomsForCells = 512;
// Cells along x are narrower than the cutoff: neighbours in x are adjacent in memory.
constexpr int kCellReachX = 4;
constexpr int kCellReachYZ = 1;
constexpr int kMostCellsPerAtom = 4;

// One per molecule.
struct CellTable {
  int is_used;  // 0: the molecule has no cells
  int n_x, n_y, n_z;
};

// tables is null where no molecule of the batch can have cells.
template <typename T>
struct CellArrays {
  CellTable* tables;  // (n_molecules,)
  int* cell_start;    // those of molecule m from first_cell on, x fastest, one more than cells
  int* cell_of;       // (n_atoms,)
  int* order;         // (n_atoms,): search order: the atom within the molecule
  T* positions;       // (n_atoms, 3) in search order
};

TITO_HOST_DEVICE std::int64_t first_cell(std::int64_t first_atom, std::int64_t m) {
  return kMostCellsPerAtom * first_atom + m;
}

// Places in search order.
struct Segment {
  int begin, end;
};

// The neighbour of a cell along an axis, `delta` of -1, 0, 1 further; -1: none.
template <bool kPeriodic>
TITO_HOST_DEVICE int neighbour_cell(int cell, int delta, int n) {
  if constexpr (kPeriodic) {
    // Too few to tell neighbours on either side apart: each once.
    if (n < 2 * kCellReachYZ + 1) return delta + 1 < n ? delta + 1 : -1;
    const int to = cell + delta;
    return to < 0 ? to + n : (to < n ? to : to - n);
  }
  const int to = cell + delta;
  return to < n ? to : -1;
}

// The cells around one are 9 rows along x, each cut in two at most at a periodic face: one part
// for each of the first 18 lanes.
template <bool kPeriodic>
TITO_HOST_DEVICE Segment segment_of_lane(const CellTable& table, const int* cell_start, int cell,
                                         int lane) {
  static_assert(kCellReachYZ == 1, "9 rows");
  if (lane >= 18) return {0, 0};
  const int n_x = table.n_x, row = cell / n_x, x = cell - row * n_x;
  const int y = neighbour_cell<kPeriodic>(row % table.n_y, lane / 2 % 3 - 1, table.n_y);
  const int z = neighbour_cell<kPeriodic>(row / table.n_y, lane / 6 - 1, table.n_z);
  if (y < 0 || z < 0) return {0, 0};
  int low = x - kCellReachX, high = x + kCellReachX;
  const bool is_second = lane % 2 == 1;
  if (kPeriodic && n_x >= 2 * kCellReachX + 1) {
    if (low < 0) {
      if (is_second) {
        low += n_x;
        high = n_x - 1;
      } else {
        low = 0;
      }
    } else if (high >= n_x) {
      if (is_second) {
        low = 0;
        high -= n_x;
      } else {
        high = n_x - 1;
      }
    } else if (is_second) {
      return {0, 0};
    }
  } else {
    if (is_second) return {0, 0};
    low = kPeriodic || low < 0 ? 0 : low;
    high = kPeriodic || high >= n_x ? n_x - 1 : high;
  }
  const int* const starts = cell_start + (z * table.n_y + y) * n_x;
  return {starts[low], starts[high + 1]};
}

constexpr int kCellThreads = 512;
constexpr int kCellWarps = kCellThreads / kLanesOfWarp;

template <typename T>
struct BuildCellsShared {
  Lattice<T> lattice;
  double low[kCellWarps][3];
  double high[kCellWarps][3];
  int warp_sums[kCellWarps];
  // The grid: a coordinate x has cell (x - origin) * scale.
  CellTable table;
  double n_cells[3];
  double origin[3];
  double scale[3];
  int is_unordered;
};

// Writes the cells of molecule block.index(). Coordinates are positions in an open box, fractions
// in a periodic one.
template <typename T, bool kPeriodic>
struct BuildCells {
  static constexpr const char* kName = "radius_graph_cells";
  static constexpr int kThreads = kCellThreads;
  using Shared = BuildCellsShared<T>;

  RadiusGraphInput<T> input;
  CellArrays<T> cells;
  int* to_zero;  // for the kernels that follow
  int n_to_zero;

  std::string sizes() const {
    return "n_atoms = " + std::to_string(input.n_atoms) +
           ", n_molecules = " + std::to_string(input.n_molecules);
  }

  template <typename Block>
  TITO_HOST_DEVICE void operator()(const Block& block, Shared& shared) const {
    const std::int64_t m = block.index();
    if (m == 0 && block.thread() < n_to_zero) to_zero[block.thread()] = 0;
    const bool is_used = is_large(m) && make_grid(block, shared, m);
    if (block.thread() == 0) cells.tables[m] = is_used ? shared.table : CellTable{0, 0, 0, 0};
    if (is_used) fill_cells(block, shared, m);
  }

 private:
  TITO_HOST_DEVICE bool is_large(std::int64_t m) const {
    const std::int64_t start = input.batch_ptr[m], end = input.batch_ptr[m + 1];
    return start >= 0 && start <= end && end <= input.n_atoms &&
           end - start >= kFewestAtomsForCells;
  }

  TITO_HOST_DEVICE int n_atoms_of(std::int64_t m) const {
    return static_cast<int>(input.batch_ptr[m + 1] - input.batch_ptr[m]);
  }

  TITO_HOST_DEVICE Vector3 coordinates(const Shared& shared, std::int64_t atom) const {
    const Vector3 p = vector3(input.positions + 3 * atom);
    if constexpr (kPeriodic) return fractions(shared.lattice, p);
    return p;
  }

  // Sets the grid; false where there can be none or it does not pay. Uniform.
  template <typename Block>
  TITO_HOST_DEVICE bool make_grid(const Block& block, Shared& shared, std::int64_t m) const {
    if (block.thread() == 0) shared.is_unordered = 0;
    if constexpr (kPeriodic) {
      if (block.warp() == 0) {
        load_lattice(block, input.boxes.rows + (input.boxes.n_boxes == 1 ? 0 : 9 * m),
                     static_cast<double>(static_cast<T>(input.cutoff)), shared.lattice);
      }
    }
    block.sync();
    // Where molecules overlap, so would their cells.
    for (std::int64_t other = block.thread(); other < input.n_molecules; other += kThreads) {
      if (input.batch_ptr[other] > input.batch_ptr[other + 1]) {
        block.atomic_or(&shared.is_unordered, 1);
      }
    }
    find_bounds(block, shared, m);
    if (block.thread() == 0) set_grid(shared, n_atoms_of(m));
    block.sync();
    return shared.table.is_used != 0;
  }

  template <typename Block>
  TITO_HOST_DEVICE void find_bounds(const Block& block, Shared& shared, std::int64_t m) const {
    const std::int64_t start = input.batch_ptr[m], end = input.batch_ptr[m + 1];
    Vector3 low = coordinates(shared, start), high = low;
    for (std::int64_t atom = start + block.thread(); atom < end; atom += kThreads) {
      widen(coordinates(shared, atom), low, high);
    }
    for (int mask = kLanesOfWarp / 2; mask > 0; mask /= 2) {
      const Vector3 other_low = {block.shuffle_xor(low.x, mask), block.shuffle_xor(low.y, mask),
                                 block.shuffle_xor(low.z, mask)};
      const Vector3 other_high = {block.shuffle_xor(high.x, mask), block.shuffle_xor(high.y, mask),
                                  block.shuffle_xor(high.z, mask)};
      widen(other_low, low, high);
      widen(other_high, low, high);
    }
    if (block.lane() == 0) {
      store(low, shared.low[block.warp()]);
      store(high, shared.high[block.warp()]);
    }
    block.sync();
    if (block.thread() == 0) {
      for (int warp = 1; warp < kCellWarps; ++warp) {
        widen(vector3(shared.low[warp]), low, high);
        widen(vector3(shared.high[warp]), low, high);
      }
      store(low, shared.low[0]);
      store(high, shared.high[0]);
    }
  }

  TITO_HOST_DEVICE static void widen(const Vector3& p, Vector3& low, Vector3& high) {
    low = {fmin(low.x, p.x), fmin(low.y, p.y), fmin(low.z, p.z)};
    high = {fmax(high.x, p.x), fmax(high.y, p.y), fmax(high.z, p.z)};
  }

  TITO_HOST_DEVICE static void store(const Vector3& from, double* to) {
    to[0] = from.x;
    to[1] = from.y;
    to[2] = from.z;
  }

  // By one thread, from the bounds in low[0] and high[0]. What it works with stays in shared memory
  // and loops are not unrolled: registers would be those of all threads.
  TITO_HOST_DEVICE void set_grid(Shared& shared, int n_atoms) const {
    shared.table = {0, 0, 0, 0};
    set_most_cells(shared);
    const double* const n = shared.n_cells;
    // Positions that are not finite, or so far apart that their difference overflows.
    if (!(n[0] * n[1] * n[2] < 1e100) || shared.is_unordered != 0) return;
    // Wider cells where atoms are thin, so that the table of cells stays short.
    const double most = fmin(static_cast<double>(kMostCellsPerAtom) * n_atoms, 1073741824.0);
    TITO_UNROLL(1)
    while (n[0] * n[1] * n[2] > most) {
      const int widest = n[0] >= n[1] && n[0] >= n[2] ? 0 : (n[1] >= n[2] ? 1 : 2);
      shared.n_cells[widest] = ceil(0.5 * n[widest]);
    }
    double share = 1.0;
    TITO_UNROLL(1)
    for (int k = 0; k < 3; ++k) {
      const double low = shared.low[0][k], high = shared.high[0][k];
      share *= fmin(1.0, (2.0 * reach_in_cells(k) + 1.0) / n[k]);
      shared.origin[k] = kPeriodic ? 0.0 : low;
      shared.scale[k] = kPeriodic ? n[k] : (n[k] > 1.0 ? n[k] / (high - low) : 0.0);
    }
    if (!(share < 0.5)) return;
    shared.table = {1, static_cast<int>(n[0]), static_cast<int>(n[1]), static_cast<int>(n[2])};
  }

  TITO_HOST_DEVICE static double reach_in_cells(int k) {
    return k == 0 ? kCellReachX : kCellReachYZ;
  }

  // The most cells along each axis that are not too narrow for the reach, NaN where positions are
  // not finite. In an open box the bounds are divided evenly, else the box is.
  TITO_HOST_DEVICE void set_most_cells(Shared& shared) const {
    double size = 0.0;  // of all bounds, in an open box
    double extent = 0.0, error = 4.0 * kFractionError;
    TITO_UNROLL(1)
    for (int k = 0; k < 3; ++k) {
      const double here = fmax(fabs(shared.low[0][k]), fabs(shared.high[0][k]));
      size = fmax(size, here);
      // Distances of atoms have fractions, and sizes, of twice that at most.
      if constexpr (kPeriodic) extent += 4.0 * here * shared.lattice.size[k];
      error += 4.0 * kFractionError * here;
    }
    const double cutoff = static_cast<double>(static_cast<T>(input.cutoff));
    double reach = cutoff * (1.0 + kUlps<T>)+kUlps<T> * 2.0 * size;
    if constexpr (kPeriodic) reach = shared.lattice.reach + kUlps<T> * extent;
    reach *= 1.0 + 1e-6;
    TITO_UNROLL(1)
    for (int k = 0; k < 3; ++k) {
      double n_cells = reach_in_cells(k);
      if constexpr (kPeriodic) {
        n_cells /= reach * shared.lattice.inverse_height[k] + error;
      } else {
        n_cells *= (shared.high[0][k] - shared.low[0][k]) / reach;
      }
      shared.n_cells[k] = n_cells < 1.0 ? 1.0 : floor(n_cells);
    }
  }

  TITO_HOST_DEVICE static int cell_of_coordinate(double x, double origin, double scale, int n) {
    const double from = kPeriodic ? x - floor(x) : x - origin;
    const double cell = from * scale;
    return cell > 0.0 ? (cell < n ? static_cast<int>(cell) : n - 1) : 0;
  }

  TITO_HOST_DEVICE int cell_of_atom(const Shared& shared, std::int64_t atom) const {
    const Vector3 p = coordinates(shared, atom);
    const CellTable& table = shared.table;
    const int x = cell_of_coordinate(p.x, shared.origin[0], shared.scale[0], table.n_x);
    const int y = cell_of_coordinate(p.y, shared.origin[1], shared.scale[1], table.n_y);
    const int z = cell_of_coordinate(p.z, shared.origin[2], shared.scale[2], table.n_z);
    return (z * table.n_y + y) * table.n_x + x;
  }

  // Puts the molecule's atoms in the order of their cells, in any order within one.
  template <typename Block>
  TITO_HOST_DEVICE void fill_cells(const Block& block, Shared& shared, std::int64_t m) const {
    const std::int64_t start = input.batch_ptr[m];
    const int n_atoms = n_atoms_of(m);
    int* const cell_start = cells.cell_start + first_cell(start, m);
    const int n_cells = shared.table.n_x * shared.table.n_y * shared.table.n_z;
    for (int c = block.thread(); c <= n_cells; c += kThreads) cell_start[c] = 0;
    block.sync();
    for (int i = block.thread(); i < n_atoms; i += kThreads) {
      const int cell = cell_of_atom(shared, start + i);
      cells.cell_of[start + i] = cell;
      block.atomic_add(cell_start + 1 + cell, 1);
    }
    block.sync();
    scan(block, shared, cell_start + 1, n_cells);
    // The start of a cell, one further than it belongs, becomes its end: the next one's start.
    for (int i = block.thread(); i < n_atoms; i += kThreads) {
      const std::int64_t place =
          start + block.atomic_add(cell_start + 1 + cells.cell_of[start + i], 1);
      cells.order[place] = i;
      for (int c = 0; c < 3; ++c) {
        cells.positions[3 * place + c] = input.positions[3 * (start + i) + c];
      }
    }
  }

  // Replaces counts by the sums of those before. Each warp has a stretch of its own.
  template <typename Block>
  TITO_HOST_DEVICE void scan(const Block& block, Shared& shared, int* counts, int n) const {
    const int lane = block.lane(), warp = block.warp();
    const int per_warp = (n + kThreads - 1) / kThreads * kLanesOfWarp;
    const int begin = warp * per_warp < n ? warp * per_warp : n;
    const int end = n - begin < per_warp ? n : begin + per_warp;
    int sum = 0;
    for (int c = begin + lane; c < end; c += kLanesOfWarp) sum += counts[c];
    sum = warp_sum(block, sum);
    if (lane == 0) shared.warp_sums[warp] = sum;
    block.sync();
    int before = 0;
    for (int other = 0; other < warp; ++other) before += shared.warp_sums[other];
    for (int base = begin; base < end; base += kLanesOfWarp) {
      const int c = base + lane;
      int total;
      const int below = warp_prefix(block, c < end ? counts[c] : 0, total);
      if (c < end) counts[c] = before + below;
      before += total;
    }
    block.sync();
  }
};

}  // namespace tito_fast
