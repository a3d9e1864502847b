// Each molecule is done by one thread from its first atom to its last, so that the result does not
// depend on the number of threads or on the other molecules.
#include "common/batch.h"
#include "common/center.h"
#include "ode_step/ode_step.h"

namespace tito_fast {
template <typename T>
void ode_step_fwd_cpu(const T* positions, const T* velocities, T* next,
                      const std::int64_t* batch_ptr, std::int64_t n_atoms, std::int64_t n_molecules,
                      StageCoefficients<T> coefficients, bool center, int n_threads) {
  check_batch_ptr(batch_ptr, n_molecules, n_atoms);
  [[maybe_unused]] const int threads =
      threads_for(3 * n_atoms * (coefficients.n_stages + 2), n_threads);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (std::int64_t m = 0; m < n_molecules; ++m) {
    const std::int64_t start = batch_ptr[m];
    const std::int64_t end = batch_ptr[m + 1];
    for (std::int64_t e = 3 * start; e < 3 * end; ++e) {
      T step = T(0);
      for (std::int64_t k = 0; k < coefficients.n_stages; ++k) {
        step += coefficients.value[k] * velocities[k * 3 * n_atoms + e];
      }
      next[e] = positions[e] + step;
    }
    if (center) center_rows(next, start, end);
  }
}

template <typename T>
void ode_step_bwd_cpu(const T* grad, T* grad_positions, T* grad_velocities,
                      const std::int64_t* batch_ptr, std::int64_t n_atoms, std::int64_t n_molecules,
                      StageCoefficients<T> coefficients, bool center, int n_threads) {
  check_batch_ptr(batch_ptr, n_molecules, n_atoms);
  [[maybe_unused]] const int threads =
      threads_for(3 * n_atoms * (coefficients.n_stages + 2), n_threads);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (std::int64_t m = 0; m < n_molecules; ++m) {
    const std::int64_t start = batch_ptr[m];
    const std::int64_t end = batch_ptr[m + 1];
    for (std::int64_t e = 3 * start; e < 3 * end; ++e) grad_positions[e] = grad[e];
    if (center) center_rows(grad_positions, start, end);
    for (std::int64_t k = 0; k < coefficients.n_stages; ++k) {
      T* const grad_velocity = grad_velocities + k * 3 * n_atoms;
      for (std::int64_t e = 3 * start; e < 3 * end; ++e) {
        grad_velocity[e] = coefficients.value[k] * grad_positions[e];
      }
    }
  }
}

#define TITO_INSTANTIATE(T)                                                                    \
  template void ode_step_fwd_cpu<T>(const T*, const T*, T*, const std::int64_t*, std::int64_t, \
                                    std::int64_t, StageCoefficients<T>, bool, int);            \
  template void ode_step_bwd_cpu<T>(const T*, T*, T*, const std::int64_t*, std::int64_t,       \
                                    std::int64_t, StageCoefficients<T>, bool, int);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace tito_fast
