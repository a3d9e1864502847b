// Images of a periodic box and cells. Binning only chooses candidates: which of them are edges is
// decided by the exact test in radius_graph_isa.cpp, so every reach below is rounded up.
#include "radius_graph/sites.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

namespace tito_fast {
namespace {

using Vector = std::array<double, 3>;
using Matrix = std::array<Vector, 3>;

// Fewer sites are tested one against all: measured at the density of a peptide and a cutoff of 5 A,
// where the two take the same time at about 650 sites in float and 450 in double.
template <typename T>
constexpr std::int64_t kFewestSitesForCells = sizeof(T) == 4 ? 650 : 450;
// Cells along x are narrower than the cutoff: neighbours in x are adjacent in memory, so narrow
// ones cost nothing and test fewer candidates.
constexpr std::array<std::int32_t, 3> kReach = {4, 1, 1};
constexpr std::int64_t kMostCellsPerSite = 4;
// Shifts stay integers that a float holds exactly.
constexpr double kMostWraps = 1 << 20;
// Below this share of the product of the rows' lengths a determinant counts as zero.
constexpr double kSmallestRelativeVolume = 1e-6;

double dot(const Vector& a, const Vector& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

Vector cross(const Vector& a, const Vector& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

double norm(const Vector& a) { return std::sqrt(dot(a, a)); }

// Sites before they are put in order: numbered by atom, then shift.
struct SiteList {
  std::vector<std::int32_t> source;
  std::vector<Vector> place;                       // Cartesian, of the wrapped image
  std::vector<std::array<std::int32_t, 3>> image;  // empty in an open box
  std::vector<std::int32_t> self;                  // by atom
};

struct Lattice {
  Matrix rows;
  Matrix reciprocal;  // rows: fraction k of p is dot(reciprocal[k], p)
  Vector height;      // between opposite faces
};

template <typename T>
Lattice lattice(const T* box) {
  Lattice result;
  for (int k = 0; k < 3; ++k) {
    for (int c = 0; c < 3; ++c) {
      result.rows[k][c] = static_cast<double>(box[3 * k + c]);
      if (!std::isfinite(result.rows[k][c])) {
        throw std::invalid_argument("box: expected finite values, got " +
                                    std::to_string(result.rows[k][c]));
      }
    }
  }
  const Matrix& rows = result.rows;
  const double volume = dot(rows[0], cross(rows[1], rows[2]));
  const double scale = norm(rows[0]) * norm(rows[1]) * norm(rows[2]);
  if (!(std::abs(volume) > kSmallestRelativeVolume * scale)) {
    throw std::invalid_argument("box: expected linearly independent rows, got determinant " +
                                std::to_string(volume));
  }
  for (int k = 0; k < 3; ++k) {
    const Vector normal = cross(rows[(k + 1) % 3], rows[(k + 2) % 3]);
    for (int c = 0; c < 3; ++c) result.reciprocal[k][c] = normal[c] / volume;
    result.height[k] = std::abs(volume) / norm(normal);
  }
  return result;
}

template <typename T>
double largest_component(const MoleculeView<T>& molecule) {
  T largest = T(0);
  for (std::int64_t e = 0; e < 3 * molecule.n_atoms; ++e) {
    largest = std::max(largest, std::abs(molecule.positions[e]));
  }
  return static_cast<double>(largest);
}

// Fractions in [0, 1] and the whole cells taken from them, (n_atoms,).
struct Wrapped {
  std::vector<Vector> fraction;
  std::vector<Vector> cells;
  Vector low, high;   // of the fractions
  Vector most_cells;  // largest |cells|
};

template <typename T>
Wrapped wrapped(const MoleculeView<T>& molecule, const Lattice& box) {
  Wrapped result;
  result.fraction.resize(static_cast<std::size_t>(molecule.n_atoms));
  result.cells.resize(static_cast<std::size_t>(molecule.n_atoms));
  result.low = {1.0, 1.0, 1.0};
  result.high = result.most_cells = {0.0, 0.0, 0.0};
  for (std::int64_t i = 0; i < molecule.n_atoms; ++i) {
    Vector place;
    for (int c = 0; c < 3; ++c) place[c] = static_cast<double>(molecule.positions[3 * i + c]);
    for (int k = 0; k < 3; ++k) {
      const double fraction = dot(box.reciprocal[k], place);
      const double cells = std::floor(fraction);
      if (!(std::abs(cells) <= kMostWraps)) {
        throw std::invalid_argument("positions: expected within 1048576 boxes of the origin, got " +
                                    std::to_string(cells) + " in row " +
                                    std::to_string(molecule.first_atom + i) +
                                    "; wrap the positions into the box");
      }
      result.fraction[i][k] = fraction - cells;
      result.cells[i][k] = cells;
      result.low[k] = std::min(result.low[k], fraction - cells);
      result.high[k] = std::max(result.high[k], fraction - cells);
      result.most_cells[k] = std::max(result.most_cells[k], std::abs(cells));
    }
  }
  return result;
}

// Longer than any exact distance that rounding in T could bring below the cutoff. `extent` bounds
// the terms that the test adds up.
template <typename T>
double rounded_up_reach(T cutoff, double extent) {
  constexpr double kUlps = 32.0 * std::numeric_limits<T>::epsilon();
  return static_cast<double>(cutoff) * (1.0 + kUlps) + kUlps * extent;
}

template <typename T>
SiteList list_images(const MoleculeView<T>& molecule, const Lattice& box, const Wrapped& atoms,
                     double& reach, T cutoff) {
  double extent = 2.0 * largest_component(molecule);
  for (int k = 0; k < 3; ++k) {
    const double most = 2.0 * atoms.most_cells[k] + static_cast<double>(cutoff) / box.height[k] + 3;
    extent +=
        most * (std::abs(box.rows[k][0]) + std::abs(box.rows[k][1]) + std::abs(box.rows[k][2]));
  }
  reach = rounded_up_reach(cutoff, extent);
  SiteList list;
  Vector margin;
  double n_images = 1.0;
  for (int k = 0; k < 3; ++k) {
    margin[k] = reach / box.height[k] + 1e-9 * (1.0 + atoms.most_cells[k]);
    n_images *= atoms.high[k] - atoms.low[k] + 2.0 * margin[k] + 1.0;
  }
  if (!(n_images * static_cast<double>(molecule.n_atoms) <
        std::numeric_limits<std::int32_t>::max())) {
    throw std::invalid_argument(
        "cutoff: expected fewer than 2147483647 images of the atoms within reach, got about " +
        std::to_string(n_images * static_cast<double>(molecule.n_atoms)) +
        "; use a shorter cutoff or a larger box");
  }
  list.self.reserve(static_cast<std::size_t>(molecule.n_atoms));
  for (std::int64_t j = 0; j < molecule.n_atoms; ++j) {
    std::array<std::int32_t, 3> low, high;
    for (int k = 0; k < 3; ++k) {
      const double fraction = atoms.fraction[j][k];
      low[k] = static_cast<std::int32_t>(std::ceil(atoms.low[k] - margin[k] - fraction));
      high[k] = static_cast<std::int32_t>(std::floor(atoms.high[k] + margin[k] - fraction));
    }
    for (std::int32_t a = low[0]; a <= high[0]; ++a) {
      for (std::int32_t b = low[1]; b <= high[1]; ++b) {
        for (std::int32_t c = low[2]; c <= high[2]; ++c) {
          if (a == 0 && b == 0 && c == 0) {
            list.self.push_back(static_cast<std::int32_t>(list.source.size()));
          }
          const Vector fraction = {atoms.fraction[j][0] + a, atoms.fraction[j][1] + b,
                                   atoms.fraction[j][2] + c};
          Vector place;
          for (int axis = 0; axis < 3; ++axis) {
            place[axis] = fraction[0] * box.rows[0][axis] + fraction[1] * box.rows[1][axis] +
                          fraction[2] * box.rows[2][axis];
          }
          list.source.push_back(static_cast<std::int32_t>(j));
          list.place.push_back(place);
          list.image.push_back({a - static_cast<std::int32_t>(atoms.cells[j][0]),
                                b - static_cast<std::int32_t>(atoms.cells[j][1]),
                                c - static_cast<std::int32_t>(atoms.cells[j][2])});
        }
      }
    }
  }
  return list;
}

template <typename T>
SiteList list_atoms(const MoleculeView<T>& molecule) {
  SiteList list;
  const std::size_t n = static_cast<std::size_t>(molecule.n_atoms);
  list.source.resize(n);
  list.place.resize(n);
  list.self.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    list.source[i] = list.self[i] = static_cast<std::int32_t>(i);
    for (int c = 0; c < 3; ++c) {
      list.place[i][c] = static_cast<double>(molecule.positions[3 * i + c]);
    }
  }
  return list;
}

struct Grid {
  Vector low;
  Vector width;
  std::array<std::int32_t, 3> n_cells;
  bool pays;

  std::int32_t cell(double x, int c) const {
    const double cell = (x - low[c]) / width[c];
    return std::clamp(static_cast<std::int32_t>(cell), 0, n_cells[c] - 1);
  }
};

Grid make_grid(const std::vector<Vector>& places, double reach, std::int64_t fewest_sites) {
  Grid grid{};
  if (static_cast<std::int64_t>(places.size()) < fewest_sites) return grid;
  Vector high = grid.low = places.front();
  for (const Vector& place : places) {
    for (int c = 0; c < 3; ++c) {
      grid.low[c] = std::min(grid.low[c], place[c]);
      high[c] = std::max(high[c], place[c]);
    }
  }
  // Wider cells where atoms are thin, so that the table of cells stays short.
  const double most = static_cast<double>(kMostCellsPerSite * places.size()) + 64.0;
  Vector n_cells;
  double share = 1.0;  // of the sites that a receiver is tested against
  for (int c = 0; c < 3; ++c) {
    // A little wider than needed, for the rounding of cell().
    grid.width[c] =
        reach / kReach[c] * (1.0 + 1e-6) + 1e-12 * (std::abs(grid.low[c]) + std::abs(high[c]));
    n_cells[c] = std::floor((high[c] - grid.low[c]) / grid.width[c]) + 1.0;
  }
  // Places so far apart that their difference overflows.
  if (!std::isfinite(n_cells[0] + n_cells[1] + n_cells[2])) return grid;
  while (n_cells[0] * n_cells[1] * n_cells[2] > most) {
    const int widest =
        static_cast<int>(std::max_element(n_cells.begin(), n_cells.end()) - n_cells.begin());
    grid.width[widest] *= 2.0;
    n_cells[widest] = std::floor((high[widest] - grid.low[widest]) / grid.width[widest]) + 1.0;
  }
  for (int c = 0; c < 3; ++c) {
    grid.n_cells[c] = static_cast<std::int32_t>(n_cells[c]);
    share *= std::min(1.0, (2.0 * kReach[c] + 1.0) / n_cells[c]);
  }
  grid.pays = share < 0.5;
  return grid;
}

// Puts the sites in the order of their cells, stable, and describes the cells.
template <typename T>
std::vector<std::int32_t> order_by_cell(const SiteList& list, const Grid& grid,
                                        MoleculeSites<T>& owned) {
  const std::size_t n = list.place.size();
  const std::size_t n_cells =
      static_cast<std::size_t>(grid.n_cells[0]) * grid.n_cells[1] * grid.n_cells[2];
  std::vector<std::int64_t> cell_of(n);
  owned.cell_start.assign(n_cells + 1, 0);
  for (std::size_t s = 0; s < n; ++s) {
    const std::int64_t z = grid.cell(list.place[s][2], 2), y = grid.cell(list.place[s][1], 1);
    cell_of[s] = (z * grid.n_cells[1] + y) * grid.n_cells[0] + grid.cell(list.place[s][0], 0);
    ++owned.cell_start[static_cast<std::size_t>(cell_of[s]) + 1];
  }
  for (std::size_t k = 0; k < n_cells; ++k) owned.cell_start[k + 1] += owned.cell_start[k];
  std::vector<std::int64_t> next(owned.cell_start.begin(), owned.cell_start.end() - 1);
  std::vector<std::int32_t> order(n);
  for (std::size_t s = 0; s < n; ++s) {
    order[static_cast<std::size_t>(next[static_cast<std::size_t>(cell_of[s])]++)] =
        static_cast<std::int32_t>(s);
  }
  owned.cell.resize(3 * list.self.size());
  for (std::size_t i = 0; i < list.self.size(); ++i) {
    const Vector& place = list.place[static_cast<std::size_t>(list.self[i])];
    for (int c = 0; c < 3; ++c) owned.cell[3 * i + c] = grid.cell(place[c], c);
  }
  return order;
}

// Copies the sites into search order and points `sites` at them.
template <typename T>
void store_sites(const MoleculeView<T>& molecule, const SiteList& list,
                 const std::vector<std::int32_t>& order, MoleculeSites<T>& owned, Sites<T>& sites) {
  const std::size_t n = list.source.size(), padded = n + kSitePadding;
  const bool is_periodic = !list.image.empty();
  owned.values.resize((is_periodic ? 6 : 3) * padded);
  owned.self.assign(list.self.begin(), list.self.end());
  if (!order.empty()) owned.number.assign(padded, 0);
  std::vector<std::int32_t> place_of(order.size());
  for (std::size_t k = 0; k < n; ++k) {
    const std::size_t s = order.empty() ? k : static_cast<std::size_t>(order[k]);
    for (std::size_t c = 0; c < 3; ++c) {
      owned.values[c * padded + k] = molecule.components[c][list.source[s]];
      if (is_periodic) owned.values[(3 + c) * padded + k] = static_cast<T>(list.image[s][c]);
    }
    if (!order.empty()) {
      owned.number[k] = static_cast<SiteNumber<T>>(s);
      place_of[s] = static_cast<std::int32_t>(k);
    }
  }
  if (!order.empty()) {
    for (std::int32_t& self : owned.self) self = place_of[static_cast<std::size_t>(self)];
    sites.number = owned.number.data();
  }
  for (std::size_t c = 0; c < 3; ++c) {
    sites.position[c] = owned.values.data() + c * padded;
    if (is_periodic) sites.image[c] = owned.values.data() + (3 + c) * padded;
  }
  sites.n_sites = static_cast<std::int64_t>(n);
  sites.self = owned.self.data();
}

}  // namespace

template <typename T>
Sites<T> plain_sites(const MoleculeView<T>& molecule, T limit) {
  Sites<T> sites{};
  sites.n_sites = molecule.n_atoms;
  sites.first_atom = molecule.first_atom;
  sites.squared_limit = limit;
  sites.receiver = molecule.positions;
  for (int c = 0; c < 3; ++c) sites.position[c] = molecule.components[c];
  return sites;
}

template <typename T>
bool needs_sites(const MoleculeView<T>& molecule) {
  return molecule.box != nullptr || molecule.n_atoms >= kFewestSitesForCells<T>;
}

template <typename T>
Sites<T> build_sites(const MoleculeView<T>& molecule, T cutoff, T limit, MoleculeSites<T>& owned) {
  Sites<T> sites = plain_sites(molecule, limit);
  SiteList list;
  double reach = 0.0;
  if (molecule.box != nullptr) {
    const Lattice box = lattice(molecule.box);
    if (molecule.n_atoms == 0) return sites;
    const Wrapped atoms = wrapped(molecule, box);
    list = list_images(molecule, box, atoms, reach, cutoff);
    owned.wrap.resize(static_cast<std::size_t>(3 * molecule.n_atoms));
    for (std::int64_t i = 0; i < molecule.n_atoms; ++i) {
      for (int c = 0; c < 3; ++c) owned.wrap[3 * i + c] = static_cast<T>(atoms.cells[i][c]);
    }
    sites.wrap = owned.wrap.data();
    std::copy(molecule.box, molecule.box + 9, sites.box);
  } else {
    list = list_atoms(molecule);
    reach = rounded_up_reach(cutoff, 2.0 * largest_component(molecule));
  }
  const Grid grid = make_grid(list.place, reach, kFewestSitesForCells<T>);
  if (molecule.box == nullptr && !grid.pays) return sites;
  const std::vector<std::int32_t> order =
      grid.pays ? order_by_cell(list, grid, owned) : std::vector<std::int32_t>();
  store_sites(molecule, list, order, owned, sites);
  if (grid.pays) {
    sites.cell_start = owned.cell_start.data();
    sites.cell = owned.cell.data();
    std::copy(grid.n_cells.begin(), grid.n_cells.end(), sites.n_cells);
    std::copy(kReach.begin(), kReach.end(), sites.reach);
  }
  if (molecule.box != nullptr) {
    owned.source = std::move(list.source);
    sites.source = owned.source.data();
  }
  return sites;
}

template <typename T>
std::int64_t n_tests(const Sites<T>& sites, std::int64_t n_atoms) {
  double share = 1.0;
  if (sites.cell_start != nullptr) {
    for (int c = 0; c < 3; ++c)
      share *= std::min(1.0, (2.0 * sites.reach[c] + 1.0) / sites.n_cells[c]);
  }
  return static_cast<std::int64_t>(share * static_cast<double>(n_atoms) *
                                   static_cast<double>(sites.n_sites));
}

#define TITO_INSTANTIATE(T)                                                          \
  template Sites<T> plain_sites<T>(const MoleculeView<T>&, T);                       \
  template bool needs_sites<T>(const MoleculeView<T>&);                              \
  template Sites<T> build_sites<T>(const MoleculeView<T>&, T, T, MoleculeSites<T>&); \
  template std::int64_t n_tests<T>(const Sites<T>&, std::int64_t);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace tito_fast
