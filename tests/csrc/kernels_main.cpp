// Calls every CPU kernel on awkward sizes, each array a heap block of exactly its size, so that a
// sanitizer sees an access beside it. Outputs start as NaN and have to end finite.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <limits>
#include <numeric>
#include <vector>

#include "common/isa.h"
#include "edge_embed/edge_embed.h"
#include "kernel_arrays.h"
#include "kernels_brownian.h"
#include "kernels_network.h"
#include "mlp/mlp_op.h"
#include "ode_step/ode_step.h"
#include "ot_couple/ot_couple.h"
#include "painn_message/painn_message.h"
#include "painn_update/painn_update.h"
#include "philox_normal/philox_normal.h"
#include "radius_graph/radius_graph.h"
#include "readout_step/readout_step.h"
#include "time_embed/time_embed.h"

namespace {

using tito_fast_test::Array;
using tito_fast_test::MlpBlock;
using tito_fast_test::optional;
using tito_fast_test::Sizes;
using tito_fast_test::starts_of;

// Complete graphs, or every edge j -> i with (i + 2 j) % 3 > 0 and none of each molecule's last
// atom.
struct Graph {
  Graph(const Sizes& sizes, bool is_complete) {
    std::vector<std::int64_t> starts = starts_of(sizes);
    std::vector<std::int64_t> edge_ptr{0};
    std::vector<std::int64_t> source;
    std::vector<std::int64_t> edge_pair;
    std::vector<std::int64_t> pair_edges;
    for (std::size_t m = 0; m < sizes.size(); ++m) {
      const std::int64_t n = sizes[m];
      std::vector<std::int64_t> pair_of(static_cast<std::size_t>(n * n), -1);
      for (std::int64_t i = 0; i < n; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          const bool is_kept = (i + 2 * j) % 3 > 0 && i + 1 < n && j + 1 < n;
          if (i == j || !(is_complete || is_kept)) continue;
          std::int64_t& pair = pair_of[std::min(i, j) * n + std::max(i, j)];
          const auto e = static_cast<std::int64_t>(source.size());
          if (pair < 0) {
            pair = static_cast<std::int64_t>(pair_edges.size()) / 2;
            pair_edges.insert(pair_edges.end(), {e, -1});
          } else {
            pair_edges[2 * pair + 1] = e;
          }
          edge_pair.push_back(pair);
          source.push_back(starts[m] + j);
        }
        edge_ptr.push_back(static_cast<std::int64_t>(source.size()));
      }
    }
    for (const auto* array : {&starts, &edge_ptr, &source, &edge_pair, &pair_edges}) {
      arrays.push_back(Array<std::int64_t>::copy(*array));
    }
    view = {starts.back(),        arrays[2].size(), arrays[4].size() / 2,
            arrays[0].size() - 1, arrays[0].data(), arrays[1].data(),
            arrays[2].data(),     arrays[3].data(), arrays[4].data()};
  }

  std::vector<Array<std::int64_t>> arrays;
  tito_fast::MessageGraph view{};
};

template <typename T>
void message(const Graph& graph, tito_fast::MessageShape shape, bool wants_geometry,
             int n_threads) {
  const std::int64_t width = shape.width;
  const std::int64_t atoms = graph.view.n_atoms * width;
  const std::int64_t edges = graph.view.n_edges * width;
  const std::int64_t pairs = graph.view.n_pairs;
  const int w = shape.width;
  const auto random = Array<T>::random;
  const auto output = Array<T>::output;
  const Array<T> s = random(atoms), v = random(3 * atoms), e = random(edges);
  const Array<T> dist = random(pairs), u = random(3 * graph.view.n_edges);
  const MlpBlock<T> phi(2 * w, w, 5 * w, random), filter(w, w, 5 * w, random);
  const tito_fast::MessageInputs<T> inputs{s.data(),
                                           optional(v, shape.has_vectors),
                                           e.data(),
                                           dist.data(),
                                           u.data(),
                                           phi.template view<const T>(),
                                           filter.template view<const T>()};
  const std::int64_t new_edges = shape.has_edges ? edges : 0;
  const std::int64_t old_vectors = shape.has_vectors ? 3 * atoms : 0;
  const Array<T> ds = output(atoms), dv = output(3 * atoms), de = output(new_edges);
  const Array<T> crosses = output(old_vectors);
  tito_fast::painn_message_fwd_cpu<T>(
      graph.view, shape, inputs,
      {ds.data(), dv.data(), optional(de, shape.has_edges), optional(crosses, shape.has_vectors)},
      n_threads);
  for (const auto* array : {&ds, &dv, &de, &crosses}) array->check("painn_message_fwd");

  const std::int64_t geometry = wants_geometry ? 1 : 0;
  const Array<T> gs = output(atoms), gv = output(old_vectors), ge = output(edges);
  const Array<T> g_dist = output(geometry * pairs);
  const Array<T> gu = output(geometry * 3 * graph.view.n_edges);
  const MlpBlock<T> g_phi(2 * w, w, 5 * w, output), g_filter(w, w, 5 * w, output);
  tito_fast::painn_message_bwd_cpu<T>(
      graph.view, shape, inputs,
      {ds.data(), dv.data(), optional(de, shape.has_edges), optional(crosses, shape.has_vectors),
       gs.data(), optional(gv, shape.has_vectors), ge.data(), optional(g_dist, wants_geometry),
       optional(gu, wants_geometry), g_phi.template view<T>(), g_filter.template view<T>()},
      n_threads);
  for (const auto* array : {&gs, &gv, &ge, &g_dist, &gu}) array->check("painn_message_bwd");
  g_phi.check("painn_message_bwd phi");
  g_filter.check("painn_message_bwd filter");
}

template <typename T>
void painn_message(int n_threads) {
  const Graph complete({0, 5, 1, 0, 3, 18, 2, 0}, true);
  const Graph partial({4, 0, 9, 1, 17}, false);
  for (const int width : {2, 6, 24, 40, 64}) {
    for (const Graph* graph : {&complete, &partial}) {
      message<T>(*graph, {width, true, true, true, 10.0}, true, n_threads);
      message<T>(*graph, {width, false, true, false, 10.0}, width > 6, n_threads);
      message<T>(*graph, {width, true, false, true, 10.0}, width < 24, n_threads);
    }
  }
  for (const Sizes& sizes : {Sizes{}, Sizes{0, 0}, Sizes{1}, Sizes{2}}) {
    message<T>(Graph(sizes, true), {6, true, true, true, 10.0}, true, n_threads);
  }
  // More than one wave, and molecules that are cut into items.
  message<T>(Graph({60, 75, 0, 40, 3}, true), {2, true, true, true, 10.0}, true, n_threads);
}

template <typename T>
void edge_embed(int n_threads) {
  for (const tito_fast::EdgeEmbedSizes sizes :
       {tito_fast::EdgeEmbedSizes{0, 5, 3}, {1, 1, 1}, {5000, 22, 7}, {129, 3, 64}, {40, 300, 5}}) {
    Array<std::int64_t> types(sizes.n_edges);
    for (std::int64_t k = 0; k < sizes.n_edges; ++k) types.data()[k] = k % sizes.n_types;
    const auto table = Array<T>::random(sizes.n_types * sizes.n_features);
    const auto features = Array<T>::output(sizes.n_edges * sizes.n_features);
    const auto gradient = Array<T>::output(table.size());
    tito_fast::edge_embed_fwd_cpu<T>(types.data(), table.data(), features.data(), sizes, n_threads);
    tito_fast::edge_embed_bwd_cpu<T>(types.data(), features.data(), gradient.data(), sizes,
                                     n_threads);
    features.check("edge_embed_fwd");
    gradient.check("edge_embed_bwd");
  }
}

template <typename T>
void ode_step(int n_threads) {
  for (const Sizes& sizes : {Sizes{}, Sizes{0, 5, 0, 1}, Sizes{129}, Sizes(3000, 17)}) {
    const auto starts = Array<std::int64_t>::copy(starts_of(sizes));
    const std::int64_t n_molecules = starts.size() - 1;
    const std::int64_t n_atoms = *(starts.end() - 1);
    for (const int n_stages : {1, 3, tito_fast::kMaxStages}) {
      tito_fast::StageCoefficients<T> stages{};
      stages.n_stages = n_stages;
      std::fill(stages.value, stages.value + n_stages, T(0.5));
      const auto positions = Array<T>::random(3 * n_atoms);
      const auto velocities = Array<T>::random(3 * n_atoms * n_stages);
      const auto next = Array<T>::output(3 * n_atoms);
      const auto grad_positions = Array<T>::output(3 * n_atoms);
      const auto grad_velocities = Array<T>::output(3 * n_atoms * n_stages);
      for (const bool center : {false, true}) {
        tito_fast::ode_step_fwd_cpu<T>(positions.data(), velocities.data(), next.data(),
                                       starts.data(), n_atoms, n_molecules, stages, center,
                                       n_threads);
        tito_fast::ode_step_bwd_cpu<T>(next.data(), grad_positions.data(), grad_velocities.data(),
                                       starts.data(), n_atoms, n_molecules, stages, center,
                                       n_threads);
      }
      next.check("ode_step_fwd");
      grad_positions.check("ode_step_bwd positions");
      grad_velocities.check("ode_step_bwd velocities");
    }
  }
}

template <typename T>
void ot_couple(int n_threads) {
  const auto starts = Array<std::int64_t>::copy(starts_of({0, 1, 2, 5, 0, 31, 3}));
  const std::int64_t n_atoms = *(starts.end() - 1);
  const auto x_0 = Array<T>::random(3 * n_atoms);
  const auto x_1 = Array<T>::random(3 * n_atoms);
  for (const tito_fast::CouplingSteps steps :
       {tito_fast::CouplingSteps{true, true, true}, {true, false, false}, {false, true, false}}) {
    const auto coupled = Array<T>::output(3 * n_atoms);
    tito_fast::ot_couple_fwd_cpu<T>(x_0.data(), x_1.data(), coupled.data(), starts.data(), n_atoms,
                                    starts.size() - 1, steps, n_threads);
    coupled.check("ot_couple_fwd");
  }
}

void philox_normal(int n_threads) {
  for (const Sizes& sizes :
       {Sizes{}, Sizes{0, 1, 2, 3, 4, 5, 7, 31, 33, 63, 0}, Sizes{9001, 4097}}) {
    const auto counts = Array<std::int64_t>::copy(sizes);
    const std::int64_t n_total = starts_of(sizes).back();
    Array<std::int64_t> keys(counts.size());
    Array<std::int64_t> replicas(counts.size());
    std::iota(keys.begin(), keys.end(), std::numeric_limits<std::int64_t>::min());
    std::iota(replicas.begin(), replicas.end(), 7);
    const auto normals = Array<float>::output(n_total);
    tito_fast::philox_normal_fwd_cpu(keys.data(), replicas.data(), counts.data(), normals.data(),
                                     counts.size(), n_total, {0xFFFFFFFF, 3}, n_threads);
    normals.check("philox_normal_fwd");
  }
  for (std::int64_t first = 0; first < 9; ++first) {
    for (const std::int64_t n : {0, 1, 5, 16, 67, 130}) {
      const auto row = Array<float>::output(n);
      tito_fast::philox_normal_row(~0ULL, 1, {2, 3}, first, first + n, row.data());
      row.check("philox_normal_row");
    }
  }
  const Array<std::uint32_t> words =
      Array<std::uint32_t>::copy(std::vector<std::uint32_t>(52, ~0U));
  const auto normals = Array<float>::output(52);
  tito_fast::box_muller_blocks(words.data(), normals.data(), 13);
  normals.check("box_muller_blocks");
}

template <typename T>
void mlp(int n_threads) {
  for (const std::vector<int>& n : {std::vector<int>{3, 2, 1}, {7, 24, 5}, {33, 40, 70}}) {
    const MlpBlock<T> weights(n[0], n[1], n[2], Array<T>::random);
    for (const std::int64_t n_rows : {0, 1, 47, 49, 700}) {
      const auto x = Array<T>::random(n_rows * n[0]);
      const auto y = Array<T>::output(n_rows * n[2]);
      const auto dx = Array<T>::output(n_rows * n[0]);
      const MlpBlock<T> gradient(n[0], n[1], n[2], Array<T>::output);
      const auto mlp = weights.template view<const T>();
      const auto to = gradient.template view<T>();
      tito_fast::mlp_fwd_cpu<T>(mlp, {n_rows, x.data(), y.data()}, n_threads);
      tito_fast::mlp_bwd_cpu<T>(mlp, {n_rows, x.data(), y.data(), dx.data()}, nullptr, n_threads);
      tito_fast::mlp_bwd_cpu<T>(mlp, {n_rows, x.data(), y.data(), nullptr}, &to, n_threads);
      for (const auto* array : {&y, &dx}) array->check("mlp");
      gradient.check("mlp_bwd");
    }
  }
}

template <typename T>
void painn_update(int n_threads) {
  for (const int width : {1, 6, 24, 40}) {
    for (const bool has_vectors : {true, false}) {
      const int n_out = (has_vectors ? 3 : 2) * width;
      const std::int64_t n_weights = std::int64_t{width} * width;
      const auto u = Array<T>::random(n_weights), v = Array<T>::random(n_weights);
      const MlpBlock<T> weights(2 * width, width, n_out, Array<T>::random);
      const tito_fast::PainnUpdate<const T> update{width, optional(u, has_vectors), v.data(),
                                                   weights.template view<const T>()};
      for (const std::int64_t n_rows : {0, 1, 50, 300}) {
        const std::int64_t n = n_rows * width;
        const std::int64_t n_new = has_vectors ? 3 * n : 0;
        const auto s = Array<T>::random(n), vectors = Array<T>::random(3 * n);
        const auto new_s = Array<T>::output(n), new_v = Array<T>::output(n_new);
        const auto gs = Array<T>::output(n), gv = Array<T>::output(3 * n);
        const auto gu_weight = Array<T>::output(has_vectors ? n_weights : 0);
        const auto gv_weight = Array<T>::output(n_weights);
        const MlpBlock<T> g_mlp(2 * width, width, n_out, Array<T>::output);
        const tito_fast::PainnUpdate<T> gradient{width, optional(gu_weight, has_vectors),
                                                 gv_weight.data(), g_mlp.template view<T>()};
        tito_fast::painn_update_fwd_cpu<T>(
            update, {n_rows, s.data(), vectors.data(), new_s.data(), optional(new_v, has_vectors)},
            n_threads);
        tito_fast::painn_update_bwd_cpu<T>(update,
                                           {n_rows, s.data(), vectors.data(), new_s.data(),
                                            optional(new_v, has_vectors), gs.data(), gv.data()},
                                           &gradient, n_threads);
        for (const auto* array : {&new_s, &new_v, &gs, &gv, &gu_weight, &gv_weight}) {
          array->check("painn_update");
        }
        g_mlp.check("painn_update_bwd");
      }
    }
  }
}

template <typename T>
void readout_step(int n_threads) {
  for (const Sizes& sizes : {Sizes{}, Sizes{0, 5, 0, 1, 60}, Sizes(40, 17)}) {
    const auto starts = Array<std::int64_t>::copy(starts_of(sizes));
    const std::int64_t n_rows = *(starts.end() - 1);
    const tito_fast::StepMolecules molecules{starts.size() - 1, starts.data()};
    for (const int width : {1, 6, 40}) {
      const auto v_weight = Array<T>::random(width), gv_weight = Array<T>::output(width);
      const MlpBlock<T> weights(width, width, 1, Array<T>::random);
      const MlpBlock<T> g_mlp(width, width, 1, Array<T>::output);
      const tito_fast::Readout<const T> readout{v_weight.data(), weights.template view<const T>()};
      const tito_fast::Readout<T> gradient{gv_weight.data(), g_mlp.template view<T>()};
      const auto s = Array<T>::random(n_rows * width), v = Array<T>::random(3 * n_rows * width);
      const auto x = Array<T>::random(3 * n_rows), gx = Array<T>::output(3 * n_rows);
      const auto velocity = Array<T>::output(3 * n_rows), new_x = Array<T>::output(3 * n_rows);
      const auto g_readout = Array<T>::output(3 * n_rows);
      const auto gs = Array<T>::output(s.size()), gv = Array<T>::output(v.size());
      const tito_fast::ReadoutArrays<T> arrays{n_rows, s.data(), v.data()};
      tito_fast::readout_step_fwd_cpu<T>(
          readout, arrays, molecules, {x.data(), velocity.data(), new_x.data()}, T(0.1), n_threads);
      tito_fast::readout_step_bwd_cpu<T>(
          readout, arrays, molecules, {velocity.data(), new_x.data(), gx.data(), g_readout.data()},
          T(0.1), {g_readout.data(), gs.data(), gv.data(), &gradient}, n_threads);
      for (const auto* array : {&velocity, &new_x, &gx, &gs, &gv, &gv_weight}) {
        array->check("readout_step");
      }
      g_mlp.check("readout_step_bwd");
    }
  }
}

template <typename T>
void time_embed(int n_threads) {
  for (const Sizes& sizes : {Sizes{}, Sizes{0, 5, 0, 1, 60}, Sizes(40, 17)}) {
    const auto starts = Array<std::int64_t>::copy(starts_of(sizes));
    const std::int64_t n_rows = *(starts.end() - 1);
    const std::int64_t n_molecules = starts.size() - 1;
    for (const int width : {2, 6, 40}) {
      const MlpBlock<T> weights(3 * width, width, width, Array<T>::random);
      const MlpBlock<T> g_mlp(3 * width, width, width, Array<T>::output);
      const auto gradient = g_mlp.template view<T>();
      const auto s = Array<T>::random(n_rows * width), gs = Array<T>::output(n_rows * width);
      const auto times = Array<T>::random(n_molecules * 2 * width);
      const auto g_times = Array<T>::output(times.size()), out = Array<T>::output(s.size());
      const tito_fast::TimeEmbedArrays<T> arrays{n_rows, n_molecules, starts.data(),
                                                 width,  s.data(),    times.data()};
      const auto mlp = weights.template view<const T>();
      tito_fast::time_embed_fwd_cpu<T>(mlp, arrays, out.data(), n_threads);
      tito_fast::time_embed_bwd_cpu<T>(
          mlp, arrays, {out.data(), gs.data(), g_times.data(), &gradient}, n_threads);
      for (const auto* array : {&out, &gs, &g_times}) array->check("time_embed");
      g_mlp.check("time_embed_bwd");
    }
  }
}

// Open boxes, one box for all molecules, and one each.
template <typename T>
void radius_graph(int n_threads) {
  for (const Sizes& sizes : {Sizes{}, Sizes{0, 1, 5, 0, 33, 2}, Sizes{400, 3}}) {
    const auto starts = Array<std::int64_t>::copy(starts_of(sizes));
    const std::int64_t n_atoms = *(starts.end() - 1), n_molecules = starts.size() - 1;
    const auto positions = Array<T>::random(3 * n_atoms);
    for (const std::int64_t n_boxes : {std::int64_t{0}, std::int64_t{1}, n_molecules}) {
      Array<T> boxes(9 * n_boxes);
      for (std::int64_t k = 0; k < boxes.size(); ++k) {
        boxes.data()[k] = k % 9 % 4 == 0 ? T(2.5) : T(0.1) * T(k % 3);
      }
      for (const double cutoff : {0.3, 1.1}) {
        Array<std::int64_t> edge_ptr(n_atoms + 1);
        const tito_fast::RadiusSearch<T> search(positions.data(), starts.data(),
                                                {optional(boxes, n_boxes > 0), n_boxes}, n_atoms,
                                                n_molecules, cutoff, edge_ptr.data(), n_threads);
        const std::int64_t n_edges = search.n_edges();
        const Array<std::int64_t> source(n_edges), receiver(n_edges);
        const Array<std::int32_t> shifts(n_boxes > 0 ? 3 * n_edges : 0);
        const auto vec = Array<T>::output(3 * n_edges), dist = Array<T>::output(n_edges);
        const auto gradient = Array<T>::output(3 * n_atoms);
        search.fill({source.data(), receiver.data(), vec.data(), dist.data(),
                     optional(shifts, n_boxes > 0)},
                    n_threads);
        tito_fast::radius_graph_bwd_cpu<T>(
            {vec.data(), dist.data(), vec.data(), dist.data(), source.data(), edge_ptr.data()},
            starts.data(), n_atoms, n_molecules, gradient.data(), n_threads);
        for (const auto* array : {&vec, &dist, &gradient}) array->check("radius_graph");
      }
    }
  }
}

template <typename T>
void all_of_dtype(int n_threads) {
  painn_message<T>(n_threads);
  edge_embed<T>(n_threads);
  ode_step<T>(n_threads);
  ot_couple<T>(n_threads);
  mlp<T>(n_threads);
  painn_update<T>(n_threads);
  readout_step<T>(n_threads);
  time_embed<T>(n_threads);
  radius_graph<T>(n_threads);
  tito_fast_test::tito_network<T>(n_threads);
}

}  // namespace

int main() {
  try {
    all_of_dtype<float>(1);
    all_of_dtype<float>(2);
    all_of_dtype<double>(2);
    tito_fast_test::brownian<float>(2);
    tito_fast_test::brownian<double>(1);
    philox_normal(1);
    philox_normal(2);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  std::puts(tito_fast::isa_name(tito_fast::active_isa()));
  return 0;
}
