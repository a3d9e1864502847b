#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "bindings.h"
#include "common/mlp_bindings.h"
#include "tito/tito_network.h"

namespace tito_fast {
namespace {

using namespace pybind11::literals;
using Addresses = std::vector<Address>;

// Arrays of a layer, in order: phi (10), filter (10), the bottleneck (0 or 10), u, v, update's MLP
// (10), table (0 or 1).
struct LayerArrays {
  Addresses phi;
  Addresses filter;
  Addresses reduction;
  Addresses update;
  Addresses update_mlp;
  Addresses table;
};

LayerArrays layer_arrays(const py::tuple& groups) {
  return {groups[0].cast<Addresses>(), groups[1].cast<Addresses>(), groups[2].cast<Addresses>(),
          groups[3].cast<Addresses>(), groups[4].cast<Addresses>(), groups[5].cast<Addresses>()};
}

template <typename T>
TitoLayer<T> layer_from(const LayerArrays& arrays, const TitoShape& shape, int n_knots) {
  const int n = shape.n_features;
  const int width = shape.width;
  TitoLayer<T> layer{};
  layer.phi = mlp_from<const T>(arrays.phi, 2 * width, width, 5 * width);
  layer.filter = mlp_from<const T>(arrays.filter, width, width, 5 * width);
  if (shape.is_reduced) {
    const auto at = [&](int k) { return pointer<const T>(arrays.reduction.at(k)); };
    layer.reduction = {{at(0), at(1), n, n, width},     {at(2), at(3), n, n, width},
                       {at(4), nullptr, n, n, width},   {at(5), nullptr, width, width, n},
                       {at(6), at(7), width, width, n}, {at(8), at(9), width, width, n}};
  }
  layer.u = pointer<const T>(arrays.update.at(0));
  layer.v = pointer<const T>(arrays.update.at(1));
  layer.update = mlp_from<const T>(arrays.update_mlp, 2 * n, n, 3 * n);
  if (!arrays.table.empty()) layer.table = {pointer<const float>(arrays.table.at(0)), n_knots};
  return layer;
}

TitoShape shape_from(const py::dict& shape) {
  TitoShape result{};
  result.n_features = shape["n_features"].cast<int>();
  result.width = shape["width"].cast<int>();
  result.is_reduced = shape["is_reduced"].cast<bool>();
  result.n_encodings = shape["n_encodings"].cast<int>();
  result.n_embedding_layers = shape["n_embedding_layers"].cast<int>();
  result.n_model_layers = shape["n_model_layers"].cast<int>();
  result.cutoff = shape["cutoff"].cast<double>();
  result.condition_length = shape["condition_length"].cast<double>();
  result.velocity_length = shape["velocity_length"].cast<double>();
  result.has_half_products = shape["has_half_products"].cast<bool>();
  result.hands_over_vectors = shape["hands_over_vectors"].cast<bool>();
  result.is_centered = shape["is_centered"].cast<bool>();
  return result;
}

template <typename T>
std::unique_ptr<TitoNetwork<T>> network_from(const py::dict& shape_values,
                                             const Addresses& embeddings,
                                             const std::vector<py::tuple>& embedding_layers,
                                             const Addresses& condition_readout,
                                             const Addresses& condition_v, const Addresses& combine,
                                             const std::vector<py::tuple>& model_layers,
                                             const Addresses& readout, Address readout_v,
                                             int n_knots) {
  const TitoShape shape = shape_from(shape_values);
  const int n = shape.n_features;
  std::vector<TitoLayer<T>> embedding;
  std::vector<TitoLayer<T>> model;
  for (const py::tuple& layer : embedding_layers) {
    embedding.push_back(layer_from<T>(layer_arrays(layer), shape, n_knots));
  }
  for (const py::tuple& layer : model_layers) {
    model.push_back(layer_from<T>(layer_arrays(layer), shape, n_knots));
  }
  TitoWeights<T> weights{};
  weights.atom_embedding = pointer<const T>(embeddings.at(0));
  weights.bond_embedding = pointer<const T>(embeddings.at(1));
  weights.embedding_layers = embedding.data();
  if (shape.n_embedding_layers > 0) {
    // The scalars' half of the outputs comes first.
    weights.condition_readout = mlp_from<const T>(condition_readout, n, n, n);
  }
  if (shape.hands_over_vectors) {
    weights.condition_gate = mlp_from<const T>(condition_readout, n, n, n);
    weights.condition_gate.last.weight += std::ptrdiff_t{n} * n;
    weights.condition_gate.last.bias += n;
    weights.condition_v = pointer<const T>(condition_v.at(0));
  }
  weights.combine = mlp_from<const T>(combine, (1 + shape.n_encodings) * n, n, n);
  weights.model_layers = model.data();
  // Outputs: scalar, gate. Only the gate is read.
  weights.readout = mlp_from<const T>(readout, n, n, 1);
  weights.readout.last.weight += n;
  weights.readout.last.bias += 1;
  weights.readout_v = pointer<const T>(readout_v);
  return make_tito_network<T>(shape, weights);
}

TitoBatch batch_from(const Addresses& arrays, std::int64_t n_atoms, std::int64_t n_molecules) {
  return {n_atoms, n_molecules, pointer<const std::int64_t>(arrays.at(0)),
          pointer<const std::int64_t>(arrays.at(1)), pointer<const std::int64_t>(arrays.at(2))};
}

template <typename T>
TitoCondition<T> condition_from(const Addresses& arrays) {
  return {pointer<T>(arrays.at(0)), pointer<T>(arrays.at(1)), pointer<T>(arrays.at(2)),
          pointer<T>(arrays.at(3))};
}

SolverProgram program_from(const std::vector<double>& shares, const std::vector<double>& weights,
                           bool is_multistep) {
  if (shares.size() != weights.size() || shares.empty() || shares.size() > kMostSolverStages) {
    throw std::invalid_argument("solver: expected 1 to " + std::to_string(kMostSolverStages) +
                                " stages with as many weights, got " +
                                std::to_string(shares.size()) + " and " +
                                std::to_string(weights.size()));
  }
  SolverProgram program{};
  program.n_stages = static_cast<int>(shares.size());
  program.is_multistep = is_multistep;
  for (std::size_t s = 0; s < shares.size(); ++s) {
    program.stage_shares[s] = shares[s];
    program.weights[s] = weights[s];
  }
  return program;
}

template <typename T>
void def_network(py::module_& module, const char* name) {
  py::class_<TitoNetwork<T>>(module, name)
      .def(py::init(&network_from<T>), "shape"_a, "embeddings"_a, "embedding_layers"_a,
           "condition_readout"_a, "condition_v"_a, "combine"_a, "model_layers"_a, "readout"_a,
           "readout_v"_a, "n_knots"_a)
      .def_property_readonly("padded_features", &TitoNetwork<T>::padded_features)
      .def_property_readonly("padded_width", &TitoNetwork<T>::padded_width)
      .def(
          "condition",
          [](const TitoNetwork<T>& network, const Addresses& batch, std::int64_t n_atoms,
             std::int64_t n_molecules, Address positions, const Addresses& result, int n_threads) {
            const TitoBatch molecules = batch_from(batch, n_atoms, n_molecules);
            const TitoCondition<T> out = condition_from<T>(result);
            const py::gil_scoped_release release;
            network.condition(molecules, pointer<const T>(positions), out, n_threads);
          },
          "batch"_a, "n_atoms"_a, "n_molecules"_a, "positions"_a, "result"_a, "n_threads"_a)
      .def(
          "velocity",
          [](const TitoNetwork<T>& network, const Addresses& batch, std::int64_t n_atoms,
             std::int64_t n_molecules, const Addresses& condition, const Addresses& evaluation,
             int n_threads) {
            const TitoBatch molecules = batch_from(batch, n_atoms, n_molecules);
            const TitoCondition<T> features = condition_from<T>(condition);
            const TitoEvaluation<T> here{
                pointer<const T>(evaluation.at(0)), pointer<const T>(evaluation.at(1)),
                pointer<const T>(evaluation.at(2)), pointer<const T>(evaluation.at(3)),
                pointer<T>(evaluation.at(4))};
            const py::gil_scoped_release release;
            network.velocity(molecules, features, here, n_threads);
          },
          "batch"_a, "n_atoms"_a, "n_molecules"_a, "condition"_a, "evaluation"_a, "n_threads"_a)
      .def(
          "rollout_step",
          [](const TitoNetwork<T>& network, const Addresses& batch, std::int64_t n_atoms,
             std::int64_t n_molecules, const Addresses& arrays,
             const std::vector<double>& time_grid, const std::vector<double>& stage_shares,
             const std::vector<double>& weights, bool is_multistep, std::uint32_t rollout_step,
             int vector_start, double base_std, bool center, int n_threads) {
            const TitoBatch molecules = batch_from(batch, n_atoms, n_molecules);
            TitoStep<T> step{};
            step.positions = pointer<const T>(arrays.at(0));
            step.time_encodings = pointer<const T>(arrays.at(1));
            step.molecule_encodings = pointer<const T>(arrays.at(2));
            step.keys = pointer<const std::int64_t>(arrays.at(3));
            step.replicas = pointer<const std::int64_t>(arrays.at(4));
            step.next_positions = pointer<T>(arrays.at(5));
            step.time_grid = time_grid.data();
            step.n_steps = static_cast<int>(time_grid.size()) - 1;
            step.solver = program_from(stage_shares, weights, is_multistep);
            step.rollout_step = rollout_step;
            step.vector_start = static_cast<VectorStart>(vector_start);
            step.base_std = base_std;
            step.center = center;
            const py::gil_scoped_release release;
            network.rollout_step(molecules, step, n_threads);
          },
          "batch"_a, "n_atoms"_a, "n_molecules"_a, "arrays"_a, "time_grid"_a, "stage_shares"_a,
          "weights"_a, "is_multistep"_a, "rollout_step"_a, "vector_start"_a, "base_std"_a,
          "center"_a, "n_threads"_a);
}

}  // namespace

void bind_tito_network(py::module_& module) {
  def_network<float>(module, "TitoNetworkFloat32");
  def_network<double>(module, "TitoNetworkFloat64");
}

}  // namespace tito_fast
