// Checks batches, cuts them into groups, and calls the network of the instruction set in use.
#include <algorithm>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/batch.h"
#include "tito/tito_network.h"
#include "tito/tito_network_isa.h"

namespace tito_fast {

template <typename T>
TitoNetwork<T>::~TitoNetwork() = default;
template <typename T>
TitoKernels<T>::TitoKernels() = default;
template <typename T>
TitoKernels<T>::~TitoKernels() = default;
template class TitoKernels<float>;
template class TitoKernels<double>;

namespace {

// Edges of a group: enough that reading the weights is small beside the work, few enough that it
// stays in cache.
constexpr std::int64_t kGroupEdges = 1024;
// A cut into groups that keeps less of the threads busy than this loses to all threads in one
// group.
constexpr double kLeastBalance = 0.9;

struct OwnedGroups {
  std::vector<std::int64_t> molecule_ptr;
  std::vector<std::int64_t> atom_ptr;
  std::vector<std::int64_t> edge_ptr;
  TitoGroups groups{};
};

std::int64_t edges_of(const TitoBatch& batch, std::int64_t molecule) {
  const std::int64_t n = batch.batch_ptr[molecule + 1] - batch.batch_ptr[molecule];
  return n * (n - 1);
}

OwnedGroups cut(const TitoBatch& batch, const std::vector<std::int64_t>& molecule_ptr,
                bool is_team) {
  OwnedGroups owned;
  owned.molecule_ptr = molecule_ptr;
  std::int64_t n_edges = 0;
  owned.edge_ptr.push_back(0);
  owned.atom_ptr.push_back(0);
  for (std::size_t k = 0; k + 1 < molecule_ptr.size(); ++k) {
    for (std::int64_t m = molecule_ptr[k]; m < molecule_ptr[k + 1]; ++m) {
      n_edges += edges_of(batch, m);
    }
    owned.edge_ptr.push_back(n_edges);
    owned.atom_ptr.push_back(batch.batch_ptr[molecule_ptr[k + 1]]);
  }
  TitoGroups& groups = owned.groups;
  groups.n_groups = static_cast<int>(molecule_ptr.size()) - 1;
  groups.is_team = is_team;
  for (int k = 0; k < groups.n_groups; ++k) {
    groups.most_molecules = std::max(groups.most_molecules, molecule_ptr[k + 1] - molecule_ptr[k]);
    groups.most_atoms = std::max(groups.most_atoms, owned.atom_ptr[k + 1] - owned.atom_ptr[k]);
    groups.most_edges = std::max(groups.most_edges, owned.edge_ptr[k + 1] - owned.edge_ptr[k]);
  }
  groups.molecule_ptr = owned.molecule_ptr.data();
  groups.atom_ptr = owned.atom_ptr.data();
  groups.edge_ptr = owned.edge_ptr.data();
  return owned;
}

// Largest share of the work that one of n_threads gets when groups go to whoever is free.
double balance(const OwnedGroups& owned, int n_threads) {
  std::vector<std::int64_t> load(static_cast<std::size_t>(n_threads), 0);
  std::int64_t total = 0;
  for (int k = 0; k < owned.groups.n_groups; ++k) {
    const std::int64_t work = owned.edge_ptr[k + 1] - owned.edge_ptr[k];
    *std::min_element(load.begin(), load.end()) += work;
    total += work;
  }
  const std::int64_t most = *std::max_element(load.begin(), load.end());
  return most == 0 ? 1.0 : static_cast<double>(total) / (static_cast<double>(most) * n_threads);
}

OwnedGroups make_groups(const TitoBatch& batch, int n_threads) {
  check_batch_ptr(batch.batch_ptr, batch.n_molecules, batch.n_atoms);
  std::int64_t total = 0;
  for (std::int64_t m = 0; m < batch.n_molecules; ++m) total += edges_of(batch, m);
  const std::int64_t n_groups =
      (std::max<std::int64_t>(total / kGroupEdges, 1) + n_threads - 1) / n_threads * n_threads;
  std::vector<std::int64_t> molecule_ptr{0};
  std::int64_t so_far = 0;
  for (std::int64_t m = 0; m < batch.n_molecules; ++m) {
    so_far += edges_of(batch, m);
    const auto n_cut = static_cast<std::int64_t>(molecule_ptr.size());
    if (m + 1 == batch.n_molecules || so_far * n_groups >= total * n_cut) {
      molecule_ptr.push_back(m + 1);
    }
  }
  if (batch.n_molecules == 0) molecule_ptr.push_back(0);
  OwnedGroups owned = cut(batch, molecule_ptr, false);
  if (n_threads == 1 || balance(owned, n_threads) >= kLeastBalance) return owned;
  return cut(batch, {0, batch.n_molecules}, true);
}

template <typename T>
TitoKernels<T>* make_kernels(const TitoShape& shape, const TitoWeights<T>& weights) {
  TITO_DISPATCH(make_tito_kernels<T>(shape, weights));
}

void check(bool has_memory) {
  if (!has_memory) throw std::bad_alloc();
}

template <typename T>
class Network final : public TitoNetwork<T> {
 public:
  explicit Network(TitoKernels<T>* kernels) : kernels_(kernels) { check(kernels != nullptr); }

  int padded_features() const override { return kernels_->padded_features(); }
  int padded_width() const override { return kernels_->padded_width(); }

  void condition(const TitoBatch& batch, const T* positions, const TitoCondition<T>& result,
                 int n_threads) const override {
    const OwnedGroups owned = make_groups(batch, std::max(n_threads, 1));
    check(kernels_->condition(batch, positions, result, owned.groups, std::max(n_threads, 1)));
  }

  void velocity(const TitoBatch& batch, const TitoCondition<T>& condition,
                const TitoEvaluation<T>& evaluation, int n_threads) const override {
    const OwnedGroups owned = make_groups(batch, std::max(n_threads, 1));
    check(kernels_->velocity(batch, condition, evaluation, owned.groups, std::max(n_threads, 1)));
  }

  void rollout_step(const TitoBatch& batch, const TitoStep<T>& step, int n_threads) const override {
    if (step.n_steps < 1 || step.solver.n_stages < 1 || step.solver.n_stages > kMostSolverStages) {
      throw std::invalid_argument("solver: expected 1 to " + std::to_string(kMostSolverStages) +
                                  " stages and a step, got " +
                                  std::to_string(step.solver.n_stages) + " and " +
                                  std::to_string(step.n_steps));
    }
    const OwnedGroups owned = make_groups(batch, std::max(n_threads, 1));
    check(kernels_->rollout_step(batch, step, owned.groups, std::max(n_threads, 1)));
  }

 private:
  std::unique_ptr<TitoKernels<T>> kernels_;
};

}  // namespace

template <typename T>
std::unique_ptr<TitoNetwork<T>> make_tito_network(const TitoShape& shape,
                                                  const TitoWeights<T>& weights) {
  if (shape.has_half_products && (sizeof(T) != 4 || active_isa() != Isa::kAvx512Bf16)) {
    throw std::invalid_argument(
        "precision: bf16 needs float32 weights and the instruction set avx512bf16, got " +
        std::string(isa_name(active_isa())));
  }
  return std::make_unique<Network<T>>(make_kernels(shape, weights));
}

template class TitoNetwork<float>;
template class TitoNetwork<double>;
template std::unique_ptr<TitoNetwork<float>> make_tito_network<float>(const TitoShape&,
                                                                      const TitoWeights<float>&);
template std::unique_ptr<TitoNetwork<double>> make_tito_network<double>(const TitoShape&,
                                                                        const TitoWeights<double>&);

}  // namespace tito_fast
