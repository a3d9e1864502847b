// radius_graph on a CUDA device; arrays as in radius_graph.h. The host reads none of them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/launch.h"
#include "radius_graph/radius_graph.h"

namespace tito_fast {

// Bits of status[0].
constexpr int kBadBatchPtr = 1;       // does not rise from 0 to n_atoms
constexpr int kBadPosition = 2;       // not finite
constexpr int kBadBox = 4;            // not finite
constexpr int kSingularBox = 8;       // its volume at most 1e-6 of the product of its rows' lengths
constexpr int kDistantPosition = 16;  // more than 2^20 boxes from the origin
constexpr int kTooManyImages = 32;    // of a molecule's atoms within reach, to be counted

template <typename T>
struct RadiusGraphInput {
  const T* positions;             // (n_atoms, 3)
  const std::int64_t* batch_ptr;  // (n_molecules + 1,)
  Boxes<T> boxes;
  std::int64_t n_atoms;
  std::int64_t n_molecules;
  double cutoff;
};

// Bytes that the two steps share; not initialised, aligned to 256 bytes.
std::size_t radius_graph_workspace_cuda(std::int64_t n_atoms, std::int64_t n_molecules,
                                        bool is_double);

// Counts the edges. status: (2,), bits of what is wrong and the number of edges.
template <typename T>
void radius_graph_count_cuda(const RadiusGraphInput<T>& input, void* workspace,
                             std::int64_t* status, const Stream& stream);

// Writes edges, edge_ptr (n_atoms + 1,), and behind the edges, up to `capacity`, padding: indices
// -1, all else 0. Where status tells of an error or of more edges than that, the graph is empty.
template <typename T>
void radius_graph_fill_cuda(const RadiusGraphInput<T>& input, void* workspace,
                            const std::int64_t* status, std::int64_t capacity,
                            std::int64_t* edge_ptr, const EdgeArrays<T>& edges,
                            const Stream& stream);

// Each atom is summed in double in a fixed order. Edges must come in both directions.
template <typename T>
void radius_graph_bwd_cuda(const GeometryGradient<T>& edges, std::int64_t n_atoms,
                           std::int64_t capacity, T* grad_positions, const Stream& stream);

}  // namespace tito_fast
