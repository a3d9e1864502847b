// State update of an ODE solver: next = positions + sum_k coefficient_k velocity_k, centred per
// molecule on request. positions, next: (n_atoms, 3); velocities: (n_stages, n_atoms, 3); all dense
// and row-major.
#pragma once

#include <cstdint>

namespace tito_fast {

constexpr int kMaxStages = 8;

// coefficient_k = step_size * weight_k. Passed by value, so a CUDA launch copies nothing.
template <typename T>
struct StageCoefficients {
  T value[kMaxStages];
  int n_stages;
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

}  // namespace tito_fast
