// State update of an ODE solver: next = positions + sum_k coefficient_k velocity_k, centred per
// molecule on request. positions, next: (n_atoms, 3); velocities: (n_stages, n_atoms, 3); all dense
// and row-major.
#pragma once

#include <cstdint>

#include "philox_normal/philox_normal.h"

namespace tito_fast {

constexpr int kMaxStages = 8;

// coefficient_k = step_size * weight_k. Passed by value, so a CUDA launch copies nothing.
template <typename T>
struct StageCoefficients {
  T value[kMaxStages];
  int n_stages;
};

// Adds scale z: the 3 n_m values z of molecule m are those of a row of philox_normal with keys[m],
// replicas[m] and step.
template <typename T>
struct StepNoise {
  const std::int64_t* keys;
  const std::int64_t* replicas;
  PhiloxStep step;
  T scale;
};

// A step of its own length for each molecule, and its error. coefficient_k = step_sizes[m] weight_k
// is rounded to T; the error step_sizes[m] sum_k error_weight_k velocity_k is computed in double.
// With s = absolute + relative max(|positions|, |next|), error[m] is the root mean square of
// error / s over the molecule's components.
template <typename T>
struct EmbeddedPair {
  const T* step_sizes;
  StageCoefficients<double> weights;
  StageCoefficients<double> error_weights;
  double absolute_tolerance;
  double relative_tolerance;
};

template <typename T>
void ode_step_fwd_cpu(const T* positions, const T* velocities, T* next,
                      const std::int64_t* batch_ptr, std::int64_t n_atoms, std::int64_t n_molecules,
                      StageCoefficients<T> coefficients, bool center, int n_threads);

// grad_positions = centred(grad), grad_velocities_k = coefficient_k centred(grad).
template <typename T>
void ode_step_bwd_cpu(const T* grad, T* grad_positions, T* grad_velocities,
                      const std::int64_t* batch_ptr, std::int64_t n_atoms, std::int64_t n_molecules,
                      StageCoefficients<T> coefficients, bool center, int n_threads);

template <typename T>
void noisy_ode_step_fwd_cpu(const T* positions, const T* velocities, T* next,
                            const std::int64_t* batch_ptr, std::int64_t n_atoms,
                            std::int64_t n_molecules, const StageCoefficients<T>& coefficients,
                            const StepNoise<T>& noise, bool center, int n_threads);

template <typename T>
void embedded_ode_step_fwd_cpu(const T* positions, const T* velocities, T* next, T* error,
                               const std::int64_t* batch_ptr, std::int64_t n_atoms,
                               std::int64_t n_molecules, const EmbeddedPair<T>& pair, bool center,
                               int n_threads);

}  // namespace tito_fast
