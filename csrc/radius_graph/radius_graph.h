// Radius graph of a batch of molecules: every ordered pair of atoms, or of an atom and an image,
// closer than the cutoff; sorted by receiver, source, shift. All arrays dense and row-major.
#pragma once

#include <cstdint>
#include <vector>

#include "radius_graph/rows.h"
#include "radius_graph/sites.h"

namespace tito_fast {

// Boxes of the batch: none (open), one for all molecules, or one each. Rows are lattice vectors.
template <typename T>
struct Boxes {
  const T* rows;  // (n_boxes, 3, 3)
  std::int64_t n_boxes;
};

// Two steps, so that the caller can allocate the edges between them. Positions and edge_ptr must
// stay where they are until fill() has returned.
template <typename T>
class RadiusSearch {
 public:
  // Counts the edges and writes edge_ptr (n_atoms + 1,). Throws std::invalid_argument for a
  // batch_ptr, positions or boxes that cannot be.
  RadiusSearch(const T* positions, const std::int64_t* batch_ptr, Boxes<T> boxes,
               std::int64_t n_atoms, std::int64_t n_molecules, double cutoff,
               std::int64_t* edge_ptr, int n_threads);

  std::int64_t n_edges() const { return n_edges_; }

  // Writes n_edges() edges. Shifts are not written in open boxes.
  void fill(const EdgeArrays<T>& edges, int n_threads) const;

 private:
  // Receivers begin .. end of a molecule: what one thread does at a time.
  struct Task {
    std::int64_t molecule;
    std::int64_t begin;
    std::int64_t end;
  };

  void copy_components(const T* positions, std::int64_t n_atoms);
  void prepare(const T* positions, const std::int64_t* batch_ptr, Boxes<T> boxes,
               std::int64_t n_molecules, T cutoff, int n_threads);

  std::vector<T> components_;            // x of all atoms, then y, then z, each padded
  std::vector<MoleculeSites<T>> owned_;  // what images and cells need, one per molecule
  std::vector<Sites<T>> sites_;          // one per molecule
  std::vector<Task> tasks_;
  std::int64_t n_tests_ = 0;
  std::int64_t n_edges_ = 0;
  std::int64_t* edge_ptr_;
};

// The gradient by positions of edge_vec and edge_dist, whose direction at distance 0 counts as 0.
// Each molecule is summed in double in the order of its edges.
template <typename T>
struct GeometryGradient {
  const T* grad_vec;           // (n_edges, 3)
  const T* grad_dist;          // (n_edges,)
  const T* vec;                // (n_edges, 3)
  const T* dist;               // (n_edges,)
  const std::int64_t* source;  // (n_edges,)
  const std::int64_t* edge_ptr;
};

template <typename T>
void radius_graph_bwd_cpu(const GeometryGradient<T>& edges, const std::int64_t* batch_ptr,
                          std::int64_t n_atoms, std::int64_t n_molecules, T* grad_positions,
                          int n_threads);

}  // namespace tito_fast
