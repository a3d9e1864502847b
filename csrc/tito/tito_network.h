// The TITO network on the CPU: conditioning, velocity, and a whole rollout step in one call. Its
// definition is tito_fast/models/tito/{network,layers}.py; its parts are those of the ops
// painn_message, painn_update, time_embed, readout_step and ode_step. Arrays are dense and
// row-major; F features.
#pragma once

#include <cstdint>
#include <memory>

#include "common/mlp_layout.h"

namespace tito_fast {

struct TitoShape {
  int n_features;
  int width;               // of the messages; n_features without a bottleneck
  int n_encodings;         // of flow time, temperature if there is one, lag if there is one
  int n_embedding_layers;  // 0: no condition, the embeddings of atoms and bonds alone
  int n_model_layers;
  bool is_reduced;
  double cutoff;  // model units; 0 without
  double condition_length;
  double velocity_length;
  bool has_half_products;   // bfloat16 factors in the products of the velocity network's edges
  bool hands_over_vectors;  // the condition's vectors are the start of the velocity network's
  bool is_centered;         // the velocity, per molecule
};

// A bottleneck around a message.
template <typename T>
struct Reduction {
  Linear<const T> reduce_scalars;
  Linear<const T> reduce_edges;
  Linear<const T> reduce_vectors;
  Linear<const T> expand_vectors;
  Linear<const T> expand_scalars;
  Linear<const T> expand_edges;
};

// The filter of a velocity layer as a spline of fifth order over one period of the encoding: rows
// (n_blocks, n_knots + 5, width) of coefficients, those of the blocks that the layer computes;
// null: the MLP is run.
struct FilterTable {
  const float* rows;
  int n_knots;
};

template <typename T>
struct TitoLayer {
  Mlp<const T> phi;
  Mlp<const T> filter;
  Reduction<T> reduction;
  const T* u;
  const T* v;
  Mlp<const T> update;
  FilterTable table;
};

template <typename T>
struct TitoWeights {
  const T* atom_embedding;
  const T* bond_embedding;
  const TitoLayer<T>* embedding_layers;
  Mlp<const T>
      condition_readout;        // the scalars' half of its last linear; unset without a condition
  Mlp<const T> condition_gate;  // the gates' half; set where vectors are handed over
  const T* condition_v;         // (F, F), likewise
  Mlp<const T> combine;
  const TitoLayer<T>* model_layers;
  Mlp<const T> readout;  // the gate's row of its last linear
  const T* readout_v;
};

// Molecules with their complete graphs. Edges are (receiver, source), sorted, without the diagonal.
struct TitoBatch {
  std::int64_t n_atoms;
  std::int64_t n_molecules;
  const std::int64_t* batch_ptr;
  const std::int64_t* atomic_numbers;
  const std::int64_t* edge_type;
};

// What the conditioning network hands over; rows are padded to padded_width() values.
template <typename T>
struct TitoCondition {
  T* projection;  // (n_atoms, F padded): the scalars' share of the combining MLP's first linear
  T* edges;       // (n_edges, F padded)
  T* edge_share;  // (n_edges, width padded): share of the first velocity layer's phi
  T* vectors;     // (n_atoms, 3, F padded) where they are handed over, else null
};

template <typename T>
struct TitoEvaluation {
  const T* condition_positions;  // (n_atoms, 3), read with a cutoff and a condition only
  const T* positions;            // (n_atoms, 3)
  const T* encodings;            // (n_molecules, n_encodings, F)
  const T* vectors;              // (n_atoms, 3, F); null where the condition hands them over
  T* velocity;                   // (n_atoms, 3)
};

// Stages of one step of a solver: stage s is taken at x + h share_s v_{s - 1}; the step is h sum_s
// weight_s v_s. A multistep method (Adams-Bashforth of order 2) has one stage and no weights of its
// own.
constexpr int kMostSolverStages = 8;

struct SolverProgram {
  int n_stages;
  double stage_shares[kMostSolverStages];
  double weights[kMostSolverStages];
  bool is_multistep;
};

enum class VectorStart { kZeros, kFixed, kFresh, kCondition };

template <typename T>
struct TitoStep {
  const T* positions;       // (n_atoms, 3)
  const T* time_encodings;  // (n_evaluations, F)
  const T*
      molecule_encodings;   // (n_molecules, n_encodings - 1, F): temperature and lag if there are
  const double* time_grid;  // (n_steps + 1)
  int n_steps;
  SolverProgram solver;
  // Noise: keys and replicas of the molecules (n_molecules).
  const std::int64_t* keys;
  const std::int64_t* replicas;
  std::uint32_t rollout_step;
  VectorStart vector_start;
  double base_std;
  bool center;
  T* next_positions;  // (n_atoms, 3)
};

template <typename T>
class TitoNetwork {
 public:
  virtual ~TitoNetwork();
  // Values in a row of F, or of width, features.
  virtual int padded_features() const = 0;
  virtual int padded_width() const = 0;
  virtual void condition(const TitoBatch& batch, const T* positions, const TitoCondition<T>& result,
                         int n_threads) const = 0;
  // With a cutoff `condition` is not read; the conditioning is computed again.
  virtual void velocity(const TitoBatch& batch, const TitoCondition<T>& condition,
                        const TitoEvaluation<T>& evaluation, int n_threads) const = 0;
  virtual void rollout_step(const TitoBatch& batch, const TitoStep<T>& step,
                            int n_threads) const = 0;
};

// Packs the weights, which may go afterwards. Throws std::bad_alloc, and std::invalid_argument for
// bfloat16 products without the instruction set for them, or in float64.
template <typename T>
std::unique_ptr<TitoNetwork<T>> make_tito_network(const TitoShape& shape,
                                                  const TitoWeights<T>& weights);

}  // namespace tito_fast
