// ode_step on a CUDA device; arrays as in ode_step.h.
#pragma once

#include <cstdint>

#include "common/launch.h"
#include "ode_step/ode_step.h"

namespace tito_fast {

template <typename T>
void ode_step_fwd_cuda(const T* positions, const T* velocities, T* next,
                       const std::int64_t* batch_ptr, std::int64_t n_atoms,
                       std::int64_t n_molecules, const StageCoefficients<T>& coefficients,
                       bool center, const Stream& stream);

template <typename T>
void ode_step_bwd_cuda(const T* grad, T* grad_positions, T* grad_velocities,
                       const std::int64_t* batch_ptr, std::int64_t n_atoms,
                       std::int64_t n_molecules, const StageCoefficients<T>& coefficients,
                       bool center, const Stream& stream);

template <typename T>
void noisy_ode_step_fwd_cuda(const T* positions, const T* velocities, T* next,
                             const std::int64_t* batch_ptr, std::int64_t n_atoms,
                             std::int64_t n_molecules, const StageCoefficients<T>& coefficients,
                             const StepNoise<T>& noise, bool center, const Stream& stream);

template <typename T>
void embedded_ode_step_fwd_cuda(const T* positions, const T* velocities, T* next, T* error,
                                const std::int64_t* batch_ptr, std::int64_t n_atoms,
                                std::int64_t n_molecules, const EmbeddedPair<T>& pair, bool center,
                                const Stream& stream);

}  // namespace tito_fast
