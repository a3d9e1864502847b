// What the row kernels of radius_graph read and write (radius_graph_isa.cpp). Plain structs, for
// they cross into files that are compiled per instruction set.
//
// A site is an atom or one of its images. Sites are numbered by atom, then by shift in
// lexicographic order, so edges sorted by site number are in the order that the op promises; they
// lie in memory in search order, which is the same or goes cell by cell.
#pragma once

#include <cstdint>

namespace tito_fast {

// Arrays in search order are this much longer than n_sites: a vector may read behind the end.
constexpr int kSitePadding = 16;
// Row buffers hold this much more than the longest row: a vector may write behind the end.
constexpr int kRowPadding = 16;

template <typename T>
struct SiteNumberOf;
template <>
struct SiteNumberOf<float> {
  using Type = std::int32_t;
};
template <>
struct SiteNumberOf<double> {
  using Type = std::int64_t;
};
// As wide as T: lanes of both correspond.
template <typename T>
using SiteNumber = typename SiteNumberOf<T>::Type;

// The sites of one molecule. Null pointers mean what the comment says.
template <typename T>
struct Sites {
  std::int64_t n_sites;
  std::int64_t first_atom;      // of the molecule, in the batch
  T squared_limit;              // an edge is what has a squared distance below
  const T* position[3];         // search order: coordinates of the site's atom
  const T* image[3];            // search order: shift for a receiver with wrap 0; null: open box
  const SiteNumber<T>* number;  // search order; null: search order is the order of numbers
  const std::int32_t* source;   // by number: atom within the molecule; null: the number itself
  const std::int32_t* self;     // by atom: where it lies, unshifted, in search order; null: there
  const T* receiver;            // (n_atoms, 3) of the molecule
  const T* wrap;                // (n_atoms, 3), added to a site's image; null: open box
  T box[9];                     // rows are lattice vectors
  const std::int64_t* cell_start;  // x fastest, n_cells + 1; null: look at every site
  const std::int32_t* cell;        // (n_atoms, 3) of the receivers
  std::int32_t n_cells[3];
  std::int32_t reach[3];  // cells to look at on either side
};

// Rows of the result, indexed by edge of the batch.
template <typename T>
struct EdgeArrays {
  std::int64_t* source;
  std::int64_t* receiver;
  T* vec;                // (n_edges, 3)
  T* dist;               // (n_edges,)
  std::int32_t* shifts;  // (n_edges, 3); null: open box
};

// Room for one row: 14 arrays of T and two of numbers, each of `capacity`.
template <typename T>
struct RowBuffer {
  T* values;
  SiteNumber<T>* numbers;
  std::int64_t capacity;
};
constexpr int kRowValues = 14;
constexpr int kRowNumbers = 2;

// order[0 .. n) = 0 .. n sorted by number; for rows too long for counting ranks.
void sort_row(const std::int32_t* number, std::int64_t n, std::int32_t* order);
void sort_row(const std::int64_t* number, std::int64_t n, std::int64_t* order);

}  // namespace tito_fast
