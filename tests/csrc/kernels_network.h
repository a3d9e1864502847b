// The whole network on awkward batches.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernel_arrays.h"
#include "tito/tito_network.h"

namespace tito_fast_test {

// Rows of the embeddings.
constexpr int kElements = 167;
constexpr int kBondTypes = 13;
constexpr int kKnots = 16;

// Weights of a network, with tables in place of the velocity's filters on request.
template <typename T>
class NetworkWeights {
 public:
  NetworkWeights(const tito_fast::TitoShape& shape, bool has_tables, bool has_displacement)
      : shape_(shape) {
    const int n = shape.n_features;
    for (int k = 0; k < shape.n_embedding_layers; ++k) layers_.push_back(layer(0));
    for (int k = 0; k < shape.n_model_layers; ++k) {
      const int n_blocks = k + 1 < shape.n_model_layers ? 5 : 4;
      model_layers_.push_back(layer(has_tables ? n_blocks : 0));
    }
    view.atom_embedding = random(kElements * n);
    view.bond_embedding = random(kBondTypes * n);
    view.embedding_layers = layers_.data();
    if (shape.n_embedding_layers > 0) view.condition_readout = mlp(n, n, n);
    if (shape.hands_over_vectors) {
      view.condition_gate = mlp(n, n, n);
      // Vectors are not normalized, so through weights of size one they would overflow, and
      // positions feed back through the displacement.
      view.condition_v = random(std::int64_t{n} * n, T(1e-6));
      if (has_displacement) view.displacement = random(n, T(1e-12));
    }
    view.combine = mlp((1 + shape.n_encodings) * n, n, n);
    view.model_layers = model_layers_.data();
    view.readout = mlp(n, n, 1);
    view.readout_v = random(n);
  }

  tito_fast::TitoWeights<T> view{};

 private:
  const T* random(std::int64_t n, T scale = 1) {
    arrays_.push_back(Array<T>::random(n));
    for (T& value : arrays_.back()) value *= scale;
    return arrays_.back().data();
  }

  tito_fast::Mlp<const T> mlp(int n_in, int n_hidden, int n_out) {
    mlps_.emplace_back(n_in, n_hidden, n_out, Array<T>::random);
    return mlps_.back().template view<const T>();
  }

  tito_fast::Linear<const T> linear(int n_in, int n_out, bool has_bias) {
    const T* const weight = random(std::int64_t{n_in} * n_out);
    return {weight, has_bias ? random(n_out) : nullptr, n_in, n_in, n_out};
  }

  tito_fast::TitoLayer<T> layer(int n_table_blocks) {
    const int n = shape_.n_features;
    const int width = shape_.width;
    tito_fast::TitoLayer<T> result{};
    result.phi = mlp(2 * width, width, 5 * width);
    result.filter = mlp(width, width, 5 * width);
    if (shape_.is_reduced) {
      result.reduction = {linear(n, width, true),  linear(n, width, true), linear(n, width, false),
                          linear(width, n, false), linear(width, n, true), linear(width, n, true)};
    }
    result.u = random(std::int64_t{n} * n);
    result.v = random(std::int64_t{n} * n);
    result.update = mlp(2 * n, n, 3 * n);
    if (n_table_blocks > 0) {
      tables_.push_back(Array<float>::random(std::int64_t{n_table_blocks} * (kKnots + 5) * width));
      result.table = {tables_.back().data(), kKnots};
    }
    return result;
  }

  tito_fast::TitoShape shape_;
  std::vector<Array<T>> arrays_;
  std::vector<Array<float>> tables_;
  std::vector<MlpBlock<T>> mlps_;
  std::vector<tito_fast::TitoLayer<T>> layers_;
  std::vector<tito_fast::TitoLayer<T>> model_layers_;
};

template <typename T>
void run_network(const tito_fast::TitoNetwork<T>& network, const tito_fast::TitoShape& shape,
                 const Sizes& sizes, int n_threads) {
  const auto starts = Array<std::int64_t>::copy(starts_of(sizes));
  const std::int64_t n_atoms = *(starts.end() - 1);
  const std::int64_t n_molecules = starts.size() - 1;
  std::int64_t n_edges = 0;
  for (const std::int64_t n : sizes) n_edges += n > 0 ? n * (n - 1) : 0;
  Array<std::int64_t> elements(n_atoms);
  Array<std::int64_t> edge_type(n_edges);
  for (std::int64_t k = 0; k < n_atoms; ++k) elements.data()[k] = kElements - 1 - k % kElements;
  for (std::int64_t k = 0; k < n_edges; ++k) edge_type.data()[k] = k % 7 < 5 ? 0 : k % kBondTypes;
  const tito_fast::TitoBatch batch{n_atoms, n_molecules, starts.data(), elements.data(),
                                   edge_type.data()};
  const int n = shape.n_features;
  const auto x = Array<T>::random(3 * n_atoms), vectors = Array<T>::random(3 * n_atoms * n);
  const auto encodings = Array<T>::random(n_molecules * shape.n_encodings * n);
  const auto velocity = Array<T>::output(3 * n_atoms);
  const auto projection = Array<T>::output(n_atoms * network.padded_features());
  const auto edges = Array<T>::output(n_edges * network.padded_features());
  const auto shares = Array<T>::output(n_edges * network.padded_width());
  const bool is_handed = shape.hands_over_vectors;
  const auto handed =
      Array<T>::output(is_handed ? 3 * n_atoms * network.padded_features() : std::int64_t{0});
  const tito_fast::TitoCondition<T> condition{projection.data(), edges.data(), shares.data(),
                                              is_handed ? handed.data() : nullptr};
  if (shape.cutoff == 0.0) {
    network.condition(batch, x.data(), condition, n_threads);
    for (const auto* array : {&projection, &edges, &shares, &handed}) array->check("condition");
  }
  network.velocity(
      batch, condition,
      {x.data(), x.data(), encodings.data(), is_handed ? nullptr : vectors.data(), velocity.data()},
      n_threads);
  velocity.check("velocity");

  // Two steps of two stages.
  const auto times = Array<T>::random(4 * n);
  const auto of_molecules = Array<T>::random(n_molecules * (shape.n_encodings - 1) * n);
  const auto grid = Array<double>::copy({0.0, 0.5, 1.0});
  Array<std::int64_t> keys(n_molecules);
  Array<std::int64_t> replicas(n_molecules);
  std::iota(keys.begin(), keys.end(), 5);
  std::iota(replicas.begin(), replicas.end(), 0);
  for (const auto start : {tito_fast::VectorStart::kZeros, tito_fast::VectorStart::kFixed,
                           tito_fast::VectorStart::kFresh, tito_fast::VectorStart::kCondition}) {
    if ((start == tito_fast::VectorStart::kCondition) != is_handed) continue;
    const auto next = Array<T>::output(3 * n_atoms);
    tito_fast::TitoStep<T> step{};
    step.positions = x.data();
    step.time_encodings = times.data();
    step.molecule_encodings = of_molecules.data();
    step.time_grid = grid.data();
    step.n_steps = 2;
    step.solver = {2, {0.0, 1.0}, {0.5, 0.5}, false};
    step.keys = keys.data();
    step.replicas = replicas.data();
    step.vector_start = start;
    step.base_std = 1.0;
    step.center = true;
    step.next_positions = next.data();
    network.rollout_step(batch, step, n_threads);
    next.check("rollout_step");
  }
}

template <typename T>
void tito_network(int n_threads) {
  struct Kind {
    int n_features;
    int width;
    double cutoff;
    bool has_tables;
    int n_embedding_layers;
    bool hands_over_vectors;
    bool has_displacement;
  };
  for (const Kind& kind :
       {Kind{6, 6, 0.0, false, 2, false, false}, Kind{24, 10, 0.0, false, 2, false, false},
        Kind{24, 24, 0.0, true, 2, false, false}, Kind{10, 6, 1.5, false, 2, false, false},
        Kind{24, 10, 0.0, true, 2, true, true}, Kind{6, 6, 1.5, false, 1, true, true},
        Kind{10, 10, 0.0, false, 2, true, false}, Kind{10, 10, 0.0, false, 0, false, false},
        Kind{10, 10, 1.5, false, 0, false, false}}) {
    const tito_fast::TitoShape shape{kind.n_features,
                                     kind.width,
                                     kind.n_embedding_layers > 0 ? 2 : 1,
                                     kind.n_embedding_layers,
                                     2,
                                     kind.width < kind.n_features,
                                     kind.cutoff,
                                     10.0,
                                     10.0,
                                     false,
                                     kind.hands_over_vectors,
                                     kind.n_embedding_layers > 0};
    std::unique_ptr<tito_fast::TitoNetwork<T>> network;
    {
      // Gone once they are packed.
      const NetworkWeights<T> weights(shape, kind.has_tables, kind.has_displacement);
      network = tito_fast::make_tito_network<T>(shape, weights.view);
    }
    for (const Sizes& sizes : {Sizes{}, Sizes{0, 1, 0}, Sizes{0, 5, 1, 18, 0, 2}, Sizes{60, 3}}) {
      run_network(*network, shape, sizes, n_threads);
    }
  }
}

}  // namespace tito_fast_test
