// The end of a velocity network and the Euler step behind it: with one gate per atom and one row of
// V,
//   velocity = center(positions + mlp(s) (V v)),  new positions = center(positions + h velocity).
// Arrays are as torch holds them: dense and row-major.
#pragma once

#include <cstdint>

#include "common/mlp_layout.h"

namespace tito_fast {

// The mlp has one output. T is const for weights, and not for their gradients.
template <typename T>
struct Readout {
  T* v_weight;  // (F)
  Mlp<T> mlp;
};

template <typename T>
struct ReadoutArrays {
  std::int64_t n_rows;
  const T* scalars;  // (n_rows, F)
  const T* vectors;  // (n_rows, 3, F)
};

template <typename T>
struct ReadoutGradients {
  const T* grad_readout;  // (n_rows, 3): of gate (V v)
  T* grad_scalars;        // null where the gradients of both inputs are not wanted
  T* grad_vectors;
  const Readout<T>* gradient;  // null where it is not wanted
};

struct StepMolecules {
  std::int64_t n_molecules;
  const std::int64_t* batch_ptr;
};

template <typename T>
struct StepArrays {
  const T* positions;  // (n_rows, 3), as those below
  T* velocity;
  T* new_positions;
};

template <typename T>
struct StepGradients {
  const T* grad_velocity;
  const T* grad_new_positions;
  T* grad_positions;
  T* grad_readout;  // memory for the gradient of gate (V v)
};

template <typename T>
void readout_step_fwd_cpu(const Readout<const T>& readout, const ReadoutArrays<T>& arrays,
                          const StepMolecules& molecules, const StepArrays<T>& step, T step_size,
                          int n_threads);

template <typename T>
void readout_step_bwd_cpu(const Readout<const T>& readout, const ReadoutArrays<T>& arrays,
                          const StepMolecules& molecules, const StepGradients<T>& step, T step_size,
                          const ReadoutGradients<T>& gradients, int n_threads);

}  // namespace tito_fast
