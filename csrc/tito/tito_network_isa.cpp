#include "tito/tito_network_isa.h"

#include <new>

#include "common/threads.h"
#include "ode_step/ode_step.h"
#include "philox_normal/philox_normal.h"
#include "tito/tito_layers.h"

namespace tito_fast {
namespace TITO_ISA {
namespace {

// States of one rollout step.
template <typename T>
struct StepState {
  T* current;  // (n_atoms, 3)
  T* x;
  T* stage;
  T* velocities;   // (kMostSolverStages, n_atoms, 3)
  T* encodings;    // (n_molecules, n_encodings, F)
  float* normals;  // (3 F atoms of the largest molecule)
};

template <typename T>
StepState<T> take_state(const PackedTito<T>& net, const GroupSize& size, Workspace& memory) {
  const std::int64_t n = 3 * size.n_atoms;
  StepState<T> state{};
  state.current = memory.take<T>(n);
  state.x = memory.take<T>(n);
  state.stage = memory.take<T>(n);
  state.velocities = memory.take<T>(kMostSolverStages * n);
  state.encodings = memory.take<T>(size.n_molecules * net.shape.n_encodings * net.shape.n_features);
  state.normals = memory.take<float>(n * net.shape.n_features);
  return state;
}

// next = x + sum_k coefficient_k v_k, centered per molecule on request.
template <typename T>
void advance(const Group<T>& group, const T* x, const T* velocities, int n_stages,
             const double* coefficients, bool center, T* next) {
  StageCoefficients<T> stages{};
  stages.n_stages = n_stages;
  for (int k = 0; k < n_stages; ++k) stages.value[k] = static_cast<T>(coefficients[k]);
  ode_step_fwd_cpu<T>(x, velocities, next, group.molecule_ptr, group.size.n_atoms,
                      group.size.n_molecules, stages, center, 1);
}

template <typename T>
class NetworkOf final : public TitoKernels<T> {
 public:
  NetworkOf(const TitoShape& shape, const TitoWeights<T>& weights)
      : memory_(counted_bytes(shape, weights)) {
    if (!memory_.is_missing()) net_ = pack_tito(shape, weights, memory_);
  }

  bool is_missing() const { return memory_.is_missing(); }

  int padded_features() const override { return padded<T>(net_.shape.n_features); }
  int padded_width() const override { return padded<T>(net_.shape.width); }

  bool condition(const TitoBatch& batch, const T* positions, const TitoCondition<T>& result,
                 const TitoGroups& groups, int n_threads) const override {
    return for_groups(
        batch, groups, n_threads,
        [&](const Team& team, const GroupTile<T>& tile, Group<T>& group, const StepState<T>&) {
          const T* const here = positions + 3 * group.first_atom;
          use_result(result, group);
          set_graph(team, batch, here, here, group);
          condition_here(team, batch, here, tile, group);
        });
  }

  bool velocity(const TitoBatch& batch, const TitoCondition<T>& condition,
                const TitoEvaluation<T>& evaluation, const TitoGroups& groups,
                int n_threads) const override {
    return for_groups(
        batch, groups, n_threads,
        [&](const Team& team, const GroupTile<T>& tile, Group<T>& group, const StepState<T>&) {
          const std::int64_t first = group.first_atom;
          const T* const x = evaluation.positions + 3 * first;
          if (net_.shape.cutoff == 0.0) {
            use_result(condition, group);
            set_graph(team, batch, x, x, group);
          } else {
            const T* const current =
                has_condition() ? evaluation.condition_positions + 3 * first : x;
            set_graph(team, batch, current, x, group);
            condition_here(team, batch, current, tile, group);
          }
          const int n_features = net_.shape.n_features;
          if (team.is_first() && !net_.shape.hands_over_vectors) {
            pad_rows(3 * group.size.n_atoms, n_features,
                     evaluation.vectors + 3 * first * n_features, n_features, group.start_vectors);
          }
          velocity_here(team, x,
                        evaluation.encodings +
                            group.place.first_molecule * net_.shape.n_encodings * n_features,
                        tile, group, evaluation.velocity + 3 * first);
        });
  }

  bool rollout_step(const TitoBatch& batch, const TitoStep<T>& step, const TitoGroups& groups,
                    int n_threads) const override {
    return for_groups(
        batch, groups, n_threads,
        [&](const Team& team, const GroupTile<T>& tile, Group<T>& group,
            const StepState<T>& state) { step_here(team, batch, step, tile, group, state); });
  }

 private:
  bool has_condition() const { return net_.shape.n_embedding_layers > 0; }

  static std::int64_t counted_bytes(const TitoShape& shape, const TitoWeights<T>& weights) {
    Workspace counted;
    pack_tito(shape, weights, counted);
    return counted.used();
  }

  // Calls work(team, tile, group, state) for every group, in parallel.
  template <typename Work>
  bool for_groups(const TitoBatch& batch, const TitoGroups& groups, int n_threads,
                  const Work& work) const {
    const GroupSize most{groups.most_molecules, groups.most_atoms, groups.most_edges};
    const int n_places = groups.is_team ? 1 : n_threads;
    Workspace counted;
    for (int k = 0; k < n_places; ++k) {
      take_group(net_, most, counted);
      take_state(net_, most, counted);
    }
    for (int k = 0; k < n_threads; ++k) take_group_tile(net_, counted);
    counted.take<Group<T>>(n_places);
    counted.take<StepState<T>>(n_places);
    counted.take<GroupTile<T>>(n_threads);
    Workspace memory(counted.used());
    if (memory.is_missing()) return false;
    Group<T>* const own_groups = memory.take<Group<T>>(n_places);
    StepState<T>* const states = memory.take<StepState<T>>(n_places);
    GroupTile<T>* const tiles = memory.take<GroupTile<T>>(n_threads);
    for (int k = 0; k < n_places; ++k) {
      own_groups[k] = take_group(net_, most, memory);
      states[k] = take_state(net_, most, memory);
    }
    for (int k = 0; k < n_threads; ++k) tiles[k] = take_group_tile(net_, memory);
#pragma omp parallel num_threads(n_threads) if (n_threads > 1)
    {
      const GroupTile<T>& tile = tiles[thread_number()];
      if (groups.is_team) {
        const Team team{thread_number(), team_size()};
        if (team.is_first()) place_group(batch, groups, 0, own_groups[0]);
        team.barrier();
        // Every thread has its own copy of the sizes and addresses.
        Group<T> group = own_groups[0];
        work(team, tile, group, states[0]);
      } else {
        Group<T>& group = own_groups[thread_number()];
        const Group<T> empty = group;
#pragma omp for schedule(dynamic)
        for (int k = 0; k < groups.n_groups; ++k) {
          group = empty;
          place_group(batch, groups, k, group);
          work(Team{0, 1}, tile, group, states[thread_number()]);
        }
      }
    }
    return true;
  }

  static void place_group(const TitoBatch& batch, const TitoGroups& groups, int k,
                          Group<T>& group) {
    group.place = {groups.molecule_ptr[k], groups.molecule_ptr[k + 1], groups.edge_ptr[k]};
    group.first_atom = groups.atom_ptr[k];
    group.size = {groups.molecule_ptr[k + 1] - groups.molecule_ptr[k],
                  groups.atom_ptr[k + 1] - groups.atom_ptr[k],
                  groups.edge_ptr[k + 1] - groups.edge_ptr[k]};
    for (std::int64_t m = 0; m <= group.size.n_molecules; ++m) {
      group.molecule_ptr[m] = batch.batch_ptr[group.place.first_molecule + m] - group.first_atom;
    }
    for (std::int64_t m = 0; m < group.size.n_molecules; ++m) {
      for (std::int64_t i = group.molecule_ptr[m]; i < group.molecule_ptr[m + 1]; ++i) {
        group.molecule_idx[i] = m;
      }
    }
  }

  // The caller's arrays take the place of the group's own.
  void use_result(const TitoCondition<T>& result, Group<T>& group) const {
    group.projection = result.projection + group.first_atom * padded_features();
    group.condition = result.edges + group.place.first_edge * padded_features();
    group.edge_share = result.edge_share + group.place.first_edge * padded_width();
    if (net_.shape.hands_over_vectors) {
      group.start_vectors = result.vectors + 3 * group.first_atom * padded_features();
    }
  }

  // one, two: positions of the group's atoms that a cutoff is applied to.
  void set_graph(const Team& team, const TitoBatch& batch, const T* one, const T* two,
                 Group<T>& group) const {
    // All threads of a team write the same counts into their own copies; the arrays are shared.
    team.barrier();
    if (team.is_first()) make_graph(batch, EdgeRule<T>{net_.shape.cutoff, one, two}, group);
    team.barrier();
    group.n_edges = group.edge_ptr[group.size.n_atoms];
    std::int64_t n_pairs = 0;
    for (std::int64_t e = 0; e < group.n_edges; ++e) {
      n_pairs = group.edge_pair[e] + 1 > n_pairs ? group.edge_pair[e] + 1 : n_pairs;
    }
    group.n_pairs = n_pairs;
  }

  void condition_here(const Team& team, const TitoBatch& batch, const T* positions,
                      const GroupTile<T>& tile, const Group<T>& group) const {
    if (has_condition()) fill_geometry(team, positions, net_.shape.condition_length, 0, group);
    team.barrier();
    run_condition(team, net_, batch, tile, group);
  }

  // start_vectors are there; writes velocity (n_atoms, 3), centered.
  void velocity_here(const Team& team, const T* x, const T* encodings, const GroupTile<T>& tile,
                     const Group<T>& group, T* velocity) const {
    const int n_features = net_.shape.n_features;
    if (team.is_first()) {
      time_embed_encodings_share(net_.combine, static_cast<int>(group.size.n_molecules), encodings,
                                 std::int64_t{net_.shape.n_encodings} * n_features,
                                 group.molecule_share, padded_features());
    }
    fill_geometry(team, x, net_.shape.velocity_length, net_.model_layers[0].n_knots, group);
    team.barrier();
    run_velocity(team, net_, tile, group);
    if (team.is_first()) {
      const double one = 1.0;
      advance(group, x, group.readout, 1, &one, net_.shape.is_centered, velocity);
    }
    team.barrier();
  }

  void draw(const TitoStep<T>& step, const Group<T>& group, std::uint32_t stream_evaluation,
            int n_values, int stride, float* normals, T* rows) const {
    for (std::int64_t m = 0; m < group.size.n_molecules; ++m) {
      const std::int64_t molecule = group.place.first_molecule + m;
      const std::int64_t first = group.molecule_ptr[m];
      const std::int64_t n_rows = 3 * (group.molecule_ptr[m + 1] - first);
      // Rows of one value for positions, of F for vectors.
      philox_normal_row(static_cast<std::uint64_t>(step.keys[molecule]),
                        static_cast<std::uint32_t>(step.replicas[molecule]),
                        PhiloxStep{step.rollout_step, stream_evaluation}, 0, n_rows * n_values,
                        normals);
      T* const to = rows + 3 * first * stride;
      for (std::int64_t r = 0; r < n_rows; ++r) {
        for (int c = 0; c < stride; ++c) {
          to[r * stride + c] = c < n_values ? static_cast<T>(normals[r * n_values + c]) : T(0);
        }
      }
    }
  }

  void start_vectors(const TitoStep<T>& step, const Group<T>& group, int evaluation,
                     const StepState<T>& state) const {
    if (step.vector_start == VectorStart::kCondition) return;
    constexpr std::uint32_t kVectorStream = 1u << 28;
    const int stride = padded_features();
    if (step.vector_start == VectorStart::kFresh ||
        (step.vector_start == VectorStart::kFixed && evaluation == 0)) {
      draw(step, group, kVectorStream + static_cast<std::uint32_t>(evaluation),
           net_.shape.n_features, stride, state.normals, group.start_vectors);
    } else if (evaluation == 0) {
      for (std::int64_t k = 0; k < 3 * group.size.n_atoms * stride; k += kLanes<T>) {
        store(group.start_vectors + k, Vec<T>{});
      }
    }
  }

  void evaluation_encodings(const TitoStep<T>& step, const Group<T>& group, int evaluation,
                            T* encodings) const {
    const int n = net_.shape.n_features;
    const int n_rest = (net_.shape.n_encodings - 1) * n;
    for (std::int64_t m = 0; m < group.size.n_molecules; ++m) {
      T* const row = encodings + m * net_.shape.n_encodings * n;
      const T* const rest = step.molecule_encodings + (group.place.first_molecule + m) * n_rest;
      for (int c = 0; c < n; ++c) row[c] = step.time_encodings[std::int64_t{evaluation} * n + c];
      for (int c = 0; c < n_rest; ++c) row[n + c] = rest[c];
    }
  }

  // One evaluation of the field at x into state.velocities[slot].
  void evaluate(const Team& team, const TitoBatch& batch, const TitoStep<T>& step, const T* x,
                int evaluation, int slot, const GroupTile<T>& tile, Group<T>& group,
                const StepState<T>& state) const {
    if (net_.shape.cutoff != 0.0) {
      const T* const current = has_condition() ? state.current : x;
      set_graph(team, batch, current, x, group);
      condition_here(team, batch, current, tile, group);
    }
    if (team.is_first()) {
      start_vectors(step, group, evaluation, state);
      evaluation_encodings(step, group, evaluation, state.encodings);
    }
    velocity_here(team, x, state.encodings, tile, group,
                  state.velocities + 3 * slot * group.size.n_atoms);
  }

  void step_here(const Team& team, const TitoBatch& batch, const TitoStep<T>& step,
                 const GroupTile<T>& tile, Group<T>& group, const StepState<T>& state) const {
    const std::int64_t n_values = 3 * group.size.n_atoms;
    if (team.is_first()) {
      for (std::int64_t k = 0; k < n_values; ++k) {
        state.current[k] = step.positions[3 * group.first_atom + k];
      }
      draw(step, group, 0, 1, 1, state.normals, state.x);
      for (std::int64_t k = 0; k < n_values; ++k) state.x[k] *= static_cast<T>(step.base_std);
      if (step.center) advance(group, state.x, state.velocities, 0, nullptr, true, state.x);
    }
    team.barrier();
    if (net_.shape.cutoff == 0.0) {
      set_graph(team, batch, state.current, state.current, group);
      condition_here(team, batch, state.current, tile, group);
    }
    const SolverProgram& solver = step.solver;
    int evaluation = 0;
    for (int k = 0; k < step.n_steps; ++k) {
      const double h = step.time_grid[k + 1] - step.time_grid[k];
      if (solver.is_multistep) {
        multistep(team, batch, step, k, tile, group, state);
        continue;
      }
      for (int s = 0; s < solver.n_stages; ++s) {
        const T* x = state.x;
        if (s > 0) {
          if (team.is_first()) {
            const double coefficient = h * solver.stage_shares[s];
            advance(group, state.x, state.velocities + (s - 1) * n_values, 1, &coefficient,
                    step.center, state.stage);
          }
          team.barrier();
          x = state.stage;
        }
        evaluate(team, batch, step, x, evaluation++, s, tile, group, state);
      }
      if (team.is_first()) {
        double coefficients[kMostSolverStages];
        for (int s = 0; s < solver.n_stages; ++s) coefficients[s] = h * solver.weights[s];
        // Stages without weight are left out, so that the sum is that of the solver's formula.
        int n_kept = 0;
        for (int s = 0; s < solver.n_stages; ++s) {
          if (coefficients[s] == 0.0) continue;
          if (n_kept < s) {
            for (std::int64_t i = 0; i < n_values; ++i) {
              state.velocities[n_kept * n_values + i] = state.velocities[s * n_values + i];
            }
          }
          coefficients[n_kept++] = coefficients[s];
        }
        advance(group, state.x, state.velocities, n_kept, coefficients, step.center, state.x);
      }
      team.barrier();
    }
    if (!team.is_first()) return;
    for (std::int64_t k = 0; k < n_values; ++k) {
      step.next_positions[3 * group.first_atom + k] = state.x[k];
    }
  }

  // Adams-Bashforth of order 2: the newest velocity in slot 0, that of the step before in slot 1.
  void multistep(const Team& team, const TitoBatch& batch, const TitoStep<T>& step, int k,
                 const GroupTile<T>& tile, Group<T>& group, const StepState<T>& state) const {
    const std::int64_t n_values = 3 * group.size.n_atoms;
    const double h = step.time_grid[k + 1] - step.time_grid[k];
    if (k > 0) {
      if (team.is_first()) {
        for (std::int64_t i = 0; i < n_values; ++i) {
          state.velocities[n_values + i] = state.velocities[i];
        }
      }
      team.barrier();
    }
    evaluate(team, batch, step, state.x, k, 0, tile, group, state);
    if (team.is_first()) {
      const double half_ratio =
          k == 0 ? 0.0 : 0.5 * h / (step.time_grid[k] - step.time_grid[k - 1]);
      const double coefficients[2] = {h * (1.0 + half_ratio), h * -half_ratio};
      advance(group, state.x, state.velocities, k == 0 ? 1 : 2, coefficients, step.center, state.x);
    }
    team.barrier();
  }

  Workspace memory_;
  PackedTito<T> net_{};
};

}  // namespace

template <typename T>
TitoKernels<T>* make_tito_kernels(const TitoShape& shape, const TitoWeights<T>& weights) {
  auto* const network = new (std::nothrow) NetworkOf<T>(shape, weights);
  if (network != nullptr && network->is_missing()) {
    delete network;
    return nullptr;
  }
  return network;
}

template TitoKernels<float>* make_tito_kernels<float>(const TitoShape&, const TitoWeights<float>&);
template TitoKernels<double>* make_tito_kernels<double>(const TitoShape&,
                                                        const TitoWeights<double>&);

}  // namespace TITO_ISA
}  // namespace tito_fast
