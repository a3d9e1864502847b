// One block per molecule, one launch per step. Threads walk the molecule's elements in order, so
// that loads and stores are coalesced; the centring sum is a fixed tree in double (no atomics).
#include "common/cuda_launch.h"
#include "ode_step/ode_step_block.h"
#include "ode_step/ode_step_cuda.h"

namespace tito_fast {

template <typename T>
void ode_step_fwd_cuda(const T* positions, const T* velocities, T* next,
                       const std::int64_t* batch_ptr, std::int64_t n_atoms,
                       std::int64_t n_molecules, const StageCoefficients<T>& coefficients,
                       bool center, const Stream& stream) {
  launch(OdeStepForward<T>{positions, velocities, next, batch_ptr, n_atoms, coefficients, center},
         n_molecules, stream);
}

template <typename T>
void ode_step_bwd_cuda(const T* grad, T* grad_positions, T* grad_velocities,
                       const std::int64_t* batch_ptr, std::int64_t n_atoms,
                       std::int64_t n_molecules, const StageCoefficients<T>& coefficients,
                       bool center, const Stream& stream) {
  launch(OdeStepBackward<T>{grad, grad_positions, grad_velocities, batch_ptr, n_atoms, coefficients,
                            center},
         n_molecules, stream);
}

#define TITO_INSTANTIATE(T)                                                                     \
  template void ode_step_fwd_cuda<T>(const T*, const T*, T*, const std::int64_t*, std::int64_t, \
                                     std::int64_t, const StageCoefficients<T>&, bool,           \
                                     const Stream&);                                            \
  template void ode_step_bwd_cuda<T>(const T*, T*, T*, const std::int64_t*, std::int64_t,       \
                                     std::int64_t, const StageCoefficients<T>&, bool,           \
                                     const Stream&);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace tito_fast
