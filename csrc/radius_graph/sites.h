// The sites of one molecule: its atoms, with the images that come within reach of one, in the order
// of their numbers or in cells.
#pragma once

#include <cstdint>
#include <vector>

#include "radius_graph/rows.h"

namespace tito_fast {

template <typename T>
struct MoleculeView {
  const T* positions;      // (n_atoms, 3)
  const T* components[3];  // the same by component, padded by kSitePadding
  std::int64_t n_atoms;
  std::int64_t first_atom;
  const T* box;  // (3, 3), or null in an open box
};

// What Sites points into. Empty where the molecule's own arrays do.
template <typename T>
struct MoleculeSites {
  std::vector<T> values;
  std::vector<T> wrap;
  std::vector<SiteNumber<T>> number;
  std::vector<std::int32_t> source;
  std::vector<std::int32_t> self;
  std::vector<std::int32_t> cell;
  std::vector<std::int64_t> cell_start;
};

// Describes a molecule without images and cells: every atom is tested against every other.
template <typename T>
Sites<T> plain_sites(const MoleculeView<T>& molecule, T limit);

// Adds images in a periodic box, and cells where they pay. Throws std::invalid_argument for a box
// that is not finite or singular, and for images that cannot be counted.
template <typename T>
Sites<T> build_sites(const MoleculeView<T>& molecule, T cutoff, T limit, MoleculeSites<T>& owned);

// Whether build_sites may do more than plain_sites.
template <typename T>
bool needs_sites(const MoleculeView<T>& molecule);

// Candidate pairs that a search over all receivers tests, roughly.
template <typename T>
std::int64_t n_tests(const Sites<T>& sites, std::int64_t n_atoms);

}  // namespace tito_fast
