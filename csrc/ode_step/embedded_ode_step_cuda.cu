// One block per molecule, one launch per step: the new positions and the norm of the error. Sums
// are fixed trees in double (no atomics).
#include "common/cuda_launch.h"
#include "ode_step/embedded_ode_step_block.h"
#include "ode_step/ode_step_cuda.h"

namespace tito_fast {

template <typename T>
void embedded_ode_step_fwd_cuda(const T* positions, const T* velocities, T* next, T* error,
                                const std::int64_t* batch_ptr, std::int64_t n_atoms,
                                std::int64_t n_molecules, const EmbeddedPair<T>& pair, bool center,
                                const Stream& stream) {
  launch(EmbeddedOdeStepForward<T>{positions, velocities, next, error, batch_ptr, n_atoms, pair,
                                   center},
         n_molecules, stream);
}

#define TITO_INSTANTIATE(T)                                                                       \
  template void embedded_ode_step_fwd_cuda<T>(const T*, const T*, T*, T*, const std::int64_t*,    \
                                              std::int64_t, std::int64_t, const EmbeddedPair<T>&, \
                                              bool, const Stream&);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace tito_fast
