// Checks the graph, cuts it, and calls the kernels of the instruction set in use.
#include <algorithm>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/batch.h"
#include "painn_message/painn_message.h"
#include "painn_message/painn_message_isa.h"

namespace tito_fast {
namespace {

// Edges of an item: enough to fill tiles, few enough to give every thread some.
constexpr std::int64_t kItemEdges = 256;
// Edges of a wave: their filters and the gradients of them stay in the last-level cache.
constexpr std::int64_t kWaveEdges = 4096;
constexpr std::int64_t kMostItemsOfMolecule = 32;
// A collector holds as many numbers as the weights, so it has to see enough edges to be worth
// zeroing and adding.
constexpr std::int64_t kCollectorEdges = 1024;
constexpr std::int64_t kMostCollectors = 32;

struct OwnedPlan {
  std::vector<MessageItem> items;
  std::vector<MessageWave> waves;
  MessagePlan plan{};
};

[[noreturn]] void bad_graph(const std::string& what) {
  throw std::invalid_argument("graph: expected " + what);
}

[[noreturn]] void bad_pair_edges() { bad_graph("pair_edges that name the edges of each pair"); }

void check_graph(const MessageGraph& graph) {
  check_batch_ptr(graph.batch_ptr, graph.n_molecules, graph.n_atoms);
  if (graph.edge_ptr[0] != 0 || graph.edge_ptr[graph.n_atoms] != graph.n_edges) {
    bad_graph("edge_ptr from 0 to n_edges = " + std::to_string(graph.n_edges));
  }
  for (std::int64_t i = 0; i < graph.n_atoms; ++i) {
    if (graph.edge_ptr[i] > graph.edge_ptr[i + 1]) bad_graph("edge_ptr that never falls");
  }
  std::int64_t end_pair = 0;
  for (std::int64_t m = 0; m < graph.n_molecules; ++m) {
    const std::int64_t first = graph.batch_ptr[m];
    const std::int64_t end = graph.batch_ptr[m + 1];
    const std::int64_t first_pair = end_pair;
    for (std::int64_t i = first; i < end; ++i) {
      for (std::int64_t e = graph.edge_ptr[i]; e < graph.edge_ptr[i + 1]; ++e) {
        if (graph.source[e] < first || graph.source[e] >= end) {
          bad_graph("sources in the molecule of their receiver, got " +
                    std::to_string(graph.source[e]) + " for atom " + std::to_string(i));
        }
        if (graph.edge_pair[e] < 0 || graph.edge_pair[e] >= graph.n_pairs) {
          bad_graph("pairs in 0 .. n_pairs - 1, got " + std::to_string(graph.edge_pair[e]));
        }
        if (graph.edge_pair[e] < first_pair) bad_graph("pairs sorted by molecule");
        end_pair = std::max(end_pair, graph.edge_pair[e] + 1);
        const std::int64_t* const edges = graph.pair_edges + 2 * graph.edge_pair[e];
        if (edges[0] != e && edges[1] != e) bad_pair_edges();
      }
    }
  }
  for (std::int64_t p = 0; p < graph.n_pairs; ++p) {
    const std::int64_t one = graph.pair_edges[2 * p];
    const std::int64_t two = graph.pair_edges[2 * p + 1];
    const auto is_of_pair = [&](std::int64_t e) {
      return e >= 0 && e < graph.n_edges && graph.edge_pair[e] == p;
    };
    if (!is_of_pair(one) || (two != -1 && (two == one || !is_of_pair(two)))) bad_pair_edges();
  }
}

// First pair of a molecule whose first edge is `edge`: pairs are sorted by molecule.
std::int64_t first_pair_from(const MessageGraph& graph, std::int64_t edge) {
  std::int64_t low = 0;
  std::int64_t high = graph.n_pairs;
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (graph.pair_edges[2 * middle] < edge) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// Items of the molecules first .. end, which are few and small, or one.
void add_items(const MessageGraph& graph, std::int64_t first_molecule, std::int64_t end_molecule,
               std::vector<MessageItem>& items) {
  const std::int64_t first = graph.batch_ptr[first_molecule];
  const std::int64_t end = graph.batch_ptr[end_molecule];
  const std::int64_t n_edges = graph.edge_ptr[end] - graph.edge_ptr[first];
  if (end_molecule - first_molecule > 1 || n_edges <= 2 * kItemEdges) {
    items.push_back({first, end, first, end});
    return;
  }
  const std::int64_t wanted = std::max(kItemEdges, n_edges / kMostItemsOfMolecule);
  std::int64_t begin = first;
  for (std::int64_t i = first; i < end; ++i) {
    if (graph.edge_ptr[i + 1] - graph.edge_ptr[begin] >= wanted || i + 1 == end) {
      items.push_back({begin, i + 1, first, end});
      begin = i + 1;
    }
  }
}

OwnedPlan make_plan(const MessageGraph& graph) {
  OwnedPlan owned;
  std::int64_t wave_molecule = 0;
  std::int64_t item_molecule = 0;
  std::int64_t first_item = 0;
  for (std::int64_t m = 0; m < graph.n_molecules; ++m) {
    const auto edges_from = [&](std::int64_t molecule) {
      return graph.edge_ptr[graph.batch_ptr[m + 1]] - graph.edge_ptr[graph.batch_ptr[molecule]];
    };
    const bool is_last = m + 1 == graph.n_molecules;
    const bool ends_wave = is_last || edges_from(wave_molecule) >= kWaveEdges;
    if (edges_from(m) > 2 * kItemEdges && item_molecule < m) {
      add_items(graph, item_molecule, m, owned.items);
      item_molecule = m;
    }
    if (ends_wave || edges_from(item_molecule) >= kItemEdges) {
      add_items(graph, item_molecule, m + 1, owned.items);
      item_molecule = m + 1;
    }
    if (!ends_wave) continue;
    MessageWave wave{};
    wave.first_item = first_item;
    wave.end_item = static_cast<std::int64_t>(owned.items.size());
    wave.first_atom = graph.batch_ptr[wave_molecule];
    wave.end_atom = graph.batch_ptr[m + 1];
    wave.first_edge = graph.edge_ptr[wave.first_atom];
    wave.end_edge = graph.edge_ptr[wave.end_atom];
    wave.first_pair = first_pair_from(graph, wave.first_edge);
    wave.end_pair = first_pair_from(graph, wave.end_edge);
    owned.waves.push_back(wave);
    MessagePlan& plan = owned.plan;
    plan.most_pairs = std::max(plan.most_pairs, wave.end_pair - wave.first_pair);
    plan.most_edges = std::max(plan.most_edges, wave.end_edge - wave.first_edge);
    std::int64_t n_source_atoms = 0;
    for (std::int64_t k = first_item; k < wave.end_item; ++k) {
      n_source_atoms += owned.items[k].end_atom - owned.items[k].first_atom;
    }
    plan.most_source_atoms = std::max(plan.most_source_atoms, n_source_atoms);
    first_item = wave.end_item;
    wave_molecule = m + 1;
  }
  owned.plan.items = owned.items.data();
  owned.plan.waves = owned.waves.data();
  owned.plan.n_waves = static_cast<std::int64_t>(owned.waves.size());
  owned.plan.n_collectors = static_cast<int>(
      std::clamp<std::int64_t>(graph.n_edges / kCollectorEdges, 1, kMostCollectors));
  return owned;
}

template <typename T>
bool dispatch_fwd(const MessageGraph& graph, const MessageShape& shape,
                  const MessageInputs<T>& inputs, const MessageOutputs<T>& outputs,
                  const MessagePlan& plan, int n_threads) {
  TITO_DISPATCH(painn_message_fwd<T>(graph, shape, inputs, outputs, plan, n_threads));
}

template <typename T>
bool dispatch_bwd(const MessageGraph& graph, const MessageShape& shape,
                  const MessageInputs<T>& inputs, const MessageGradients<T>& gradients,
                  const MessagePlan& plan, int n_threads) {
  TITO_DISPATCH(painn_message_bwd<T>(graph, shape, inputs, gradients, plan, n_threads));
}

}  // namespace

template <typename T>
void painn_message_fwd_cpu(const MessageGraph& graph, const MessageShape& shape,
                           const MessageInputs<T>& inputs, const MessageOutputs<T>& outputs,
                           int n_threads) {
  check_graph(graph);
  const OwnedPlan owned = make_plan(graph);
  if (!dispatch_fwd(graph, shape, inputs, outputs, owned.plan, std::max(n_threads, 1))) {
    throw std::bad_alloc();
  }
}

template <typename T>
void painn_message_bwd_cpu(const MessageGraph& graph, const MessageShape& shape,
                           const MessageInputs<T>& inputs, const MessageGradients<T>& gradients,
                           int n_threads) {
  check_graph(graph);
  const OwnedPlan owned = make_plan(graph);
  if (!dispatch_bwd(graph, shape, inputs, gradients, owned.plan, std::max(n_threads, 1))) {
    throw std::bad_alloc();
  }
}

#define TITO_INSTANTIATE(T)                                                                       \
  template void painn_message_fwd_cpu<T>(const MessageGraph&, const MessageShape&,                \
                                         const MessageInputs<T>&, const MessageOutputs<T>&, int); \
  template void painn_message_bwd_cpu<T>(const MessageGraph&, const MessageShape&,                \
                                         const MessageInputs<T>&, const MessageGradients<T>&,     \
                                         int);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace tito_fast
