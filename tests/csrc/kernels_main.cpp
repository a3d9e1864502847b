// Calls every CPU kernel on awkward sizes, each array a heap block of exactly its size, so that a
// sanitizer sees an access beside it. Outputs start as NaN and have to end finite.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/isa.h"
#include "edge_embed/edge_embed.h"
#include "ode_step/ode_step.h"
#include "ot_couple/ot_couple.h"
#include "painn_message/painn_message.h"
#include "philox_normal/philox_normal.h"

namespace {

using Sizes = std::vector<std::int64_t>;

std::mt19937& engine() {
  static std::mt19937 shared(1);
  return shared;
}

// A heap block of exactly n elements: standard normals, or NaN for what a kernel has to write.
template <typename T>
class Array {
 public:
  explicit Array(std::int64_t n) : size_(n), block_(new T[static_cast<std::size_t>(n)]) {}

  static Array random(std::int64_t n) {
    Array result(n);
    std::normal_distribution<T> normal;
    for (T& value : result) value = normal(engine());
    return result;
  }
  static Array output(std::int64_t n) {
    Array result(n);
    std::fill(result.begin(), result.end(), std::numeric_limits<T>::quiet_NaN());
    return result;
  }
  static Array copy(const std::vector<T>& values) {
    Array result(static_cast<std::int64_t>(values.size()));
    std::copy(values.begin(), values.end(), result.begin());
    return result;
  }

  T* begin() const { return block_.get(); }
  T* end() const { return block_.get() + size_; }
  T* data() const { return block_.get(); }
  std::int64_t size() const { return size_; }

  void check(const char* name) const {
    if (!std::all_of(begin(), end(), [](T value) { return std::isfinite(value); })) {
      throw std::runtime_error(std::string(name) + ": expected finite values everywhere");
    }
  }

 private:
  std::int64_t size_;
  std::unique_ptr<T[]> block_;
};

std::vector<std::int64_t> starts_of(const Sizes& sizes) {
  std::vector<std::int64_t> starts(sizes.size() + 1, 0);
  std::partial_sum(sizes.begin(), sizes.end(), starts.begin() + 1);
  return starts;
}

// The ten arrays of an MLP.
template <typename T>
struct MlpArrays {
  MlpArrays(int n_in, int n_hidden, int n_out, Array<T> (*make)(std::int64_t))
      : n_in_(n_in), n_hidden_(n_hidden), n_out_(n_out) {
    for (const std::int64_t n : {n_hidden * n_in, n_hidden, n_hidden, n_hidden, n_hidden * n_hidden,
                                 n_hidden, n_hidden, n_hidden, n_out * n_hidden, n_out}) {
      arrays_.push_back(make(n));
    }
  }

  template <typename U>
  tito_fast::Mlp<U> view() const {
    const auto at = [&](int k) -> U* { return arrays_[k].data(); };
    return {{at(0), at(1), n_in_, n_in_, n_hidden_},         at(2), at(3),
            {at(4), at(5), n_hidden_, n_hidden_, n_hidden_}, at(6), at(7),
            {at(8), at(9), n_hidden_, n_hidden_, n_out_}};
  }

  void check(const char* name) const {
    for (const Array<T>& array : arrays_) array.check(name);
  }

 private:
  int n_in_;
  int n_hidden_;
  int n_out_;
  std::vector<Array<T>> arrays_;
};

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
  const auto random = [](std::int64_t n) { return Array<T>::random(n); };
  const auto output = [](std::int64_t n) { return Array<T>::output(n); };
  const auto optional = [](const Array<T>& array, bool is_wanted) -> T* {
    return is_wanted ? array.data() : nullptr;
  };
  const Array<T> s = random(atoms), v = random(3 * atoms), e = random(edges);
  const Array<T> dist = random(pairs), u = random(3 * graph.view.n_edges);
  const MlpArrays<T> phi(2 * w, w, 5 * w, random), filter(w, w, 5 * w, random);
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
  const MlpArrays<T> g_phi(2 * w, w, 5 * w, output), g_filter(w, w, 5 * w, output);
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
void all_of_dtype(int n_threads) {
  painn_message<T>(n_threads);
  edge_embed<T>(n_threads);
  ode_step<T>(n_threads);
  ot_couple<T>(n_threads);
}

}  // namespace

int main() {
  try {
    for (const int n_threads : {1, 2}) {
      all_of_dtype<float>(n_threads);
      all_of_dtype<double>(n_threads);
      philox_normal(n_threads);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  std::puts(tito_fast::isa_name(tito_fast::active_isa()));
  return 0;
}
