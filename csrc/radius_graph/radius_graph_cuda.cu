// A graph takes three operations on the stream: counters set to zero, by the kernel that makes
// cells where a molecule may be large enough for them; count; fill.
#include <algorithm>

#include "common/cuda_launch.h"
#include "radius_graph/radius_graph_block.h"
#include "radius_graph/radius_graph_bwd_block.h"
#include "radius_graph/radius_graph_cuda.h"
#include "radius_graph/squared_limit.h"

namespace tito_fast {
namespace {

constexpr std::size_t kAlignment = 256;
// Padding that one thread writes, about, and the most blocks that are launched only for it.
constexpr std::int64_t kPaddingPerThread = 8;
constexpr std::int64_t kMostPaddingBlocks = 1024;

std::int64_t divided_up(std::int64_t n, std::int64_t by) { return (n + by - 1) / by; }

bool may_have_cells(std::int64_t n_atoms, std::int64_t n_molecules) {
  return n_atoms >= kFewestAtomsForCells && n_molecules > 0;
}

// Hands out parts of the workspace one after the other; of null, offsets.
class Allotter {
 public:
  explicit Allotter(void* address) : address_(static_cast<char*>(address)) {}

  template <typename T>
  T* take(std::int64_t n) {
    char* const part = address_ + n_bytes_;
    n_bytes_ +=
        (static_cast<std::size_t>(n) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    return reinterpret_cast<T*>(part);
  }
  std::size_t n_bytes() const { return n_bytes_; }

 private:
  char* address_;
  std::size_t n_bytes_ = 0;
};

template <typename T>
struct Workspace {
  RadiusCounters* counters;
  RowPlaces rows;
  CellArrays<T> cells;
  std::size_t n_bytes;
};

template <typename T>
Workspace<T> divide(void* address, std::int64_t n_atoms, std::int64_t n_molecules) {
  Allotter allotter(address);
  Workspace<T> parts{};
  parts.counters = allotter.take<RadiusCounters>(1);
  parts.rows.n_tiles = divided_up(n_atoms, kReceiversPerTile);
  parts.rows.tile_start = allotter.take<std::int64_t>(parts.rows.n_tiles);
  parts.rows.start_in_tile = allotter.take<std::int64_t>(n_atoms);
  if (may_have_cells(n_atoms, n_molecules)) {
    parts.cells.tables = allotter.take<CellTable>(n_molecules);
    parts.cells.cell_start = allotter.take<int>(first_cell(n_atoms, n_molecules));
    parts.cells.cell_of = allotter.take<int>(n_atoms);
    parts.cells.order = allotter.take<int>(n_atoms);
    parts.cells.positions = allotter.take<T>(3 * n_atoms);
  }
  parts.n_bytes = allotter.n_bytes();
  return parts;
}

template <typename T, bool kPeriodic>
RadiusSearchOf<T, kPeriodic> search_of(const RadiusGraphInput<T>& input,
                                       const Workspace<T>& workspace) {
  return {input, squared_limit(static_cast<T>(input.cutoff)), workspace.cells};
}

template <typename T, bool kPeriodic>
void count(const RadiusGraphInput<T>& input, void* address, std::int64_t* status,
           const Stream& stream) {
  const auto workspace = divide<T>(address, input.n_atoms, input.n_molecules);
  static_assert(sizeof(RadiusCounters) == 2 * sizeof(int), "ints to set to zero");
  if (workspace.cells.tables != nullptr) {
    launch(BuildCells<T, kPeriodic>{input, workspace.cells, &workspace.counters->problems, 2},
           input.n_molecules, stream);
  } else {
    set_to_zero(workspace.counters, sizeof(RadiusCounters), stream);
  }
  launch(CountEdges<T, kPeriodic>{search_of<T, kPeriodic>(input, workspace), workspace.rows,
                                  workspace.counters, status},
         std::max<std::int64_t>(1, workspace.rows.n_tiles), stream);
}

template <typename T, bool kPeriodic>
void fill(const RadiusGraphInput<T>& input, void* address, const std::int64_t* status,
          std::int64_t capacity, std::int64_t* edge_ptr, const EdgeArrays<T>& edges,
          const Stream& stream) {
  using Kernel = WriteEdges<T, kPeriodic>;
  const auto workspace = divide<T>(address, input.n_atoms, input.n_molecules);
  const std::int64_t n_blocks = std::clamp<std::int64_t>(
      divided_up(capacity, kPaddingPerThread * Kernel::kThreads), 1, kMostPaddingBlocks);
  launch(Kernel{search_of<T, kPeriodic>(input, workspace), workspace.rows, status, capacity,
                edge_ptr, edges},
         std::max(n_blocks, workspace.rows.n_tiles), stream);
}

}  // namespace

std::size_t radius_graph_workspace_cuda(std::int64_t n_atoms, std::int64_t n_molecules,
                                        bool is_double) {
  return is_double ? divide<double>(nullptr, n_atoms, n_molecules).n_bytes
                   : divide<float>(nullptr, n_atoms, n_molecules).n_bytes;
}

template <typename T>
void radius_graph_count_cuda(const RadiusGraphInput<T>& input, void* workspace,
                             std::int64_t* status, const Stream& stream) {
  if (input.boxes.rows == nullptr) {
    count<T, false>(input, workspace, status, stream);
  } else {
    count<T, true>(input, workspace, status, stream);
  }
}

template <typename T>
void radius_graph_fill_cuda(const RadiusGraphInput<T>& input, void* workspace,
                            const std::int64_t* status, std::int64_t capacity,
                            std::int64_t* edge_ptr, const EdgeArrays<T>& edges,
                            const Stream& stream) {
  if (input.boxes.rows == nullptr) {
    fill<T, false>(input, workspace, status, capacity, edge_ptr, edges, stream);
  } else {
    fill<T, true>(input, workspace, status, capacity, edge_ptr, edges, stream);
  }
}

template <typename T>
void radius_graph_bwd_cuda(const GeometryGradient<T>& edges, std::int64_t n_atoms,
                           std::int64_t capacity, T* grad_positions, const Stream& stream) {
  launch(EdgeGradients<T>{edges, n_atoms, capacity, grad_positions},
         divided_up(n_atoms, kGradientWarps), stream);
}

#define TITO_INSTANTIATE(T)                                                                       \
  template void radius_graph_count_cuda<T>(const RadiusGraphInput<T>&, void*, std::int64_t*,      \
                                           const Stream&);                                        \
  template void radius_graph_fill_cuda<T>(const RadiusGraphInput<T>&, void*, const std::int64_t*, \
                                          std::int64_t, std::int64_t*, const EdgeArrays<T>&,      \
                                          const Stream&);                                         \
  template void radius_graph_bwd_cuda<T>(const GeometryGradient<T>&, std::int64_t, std::int64_t,  \
                                         T*, const Stream&);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace tito_fast
