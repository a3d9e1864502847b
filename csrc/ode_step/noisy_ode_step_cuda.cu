// One block per molecule, one launch per step, the noise in it.
#include "common/cuda_launch.h"
#include "ode_step/noisy_ode_step_block.h"
#include "ode_step/ode_step_cuda.h"

namespace tito_fast {

template <typename T>
void noisy_ode_step_fwd_cuda(const T* positions, const T* velocities, T* next,
                             const std::int64_t* batch_ptr, std::int64_t n_atoms,
                             std::int64_t n_molecules, const StageCoefficients<T>& coefficients,
                             const StepNoise<T>& noise, bool center, const Stream& stream) {
  launch(NoisyOdeStepForward<T>{positions, velocities, next, batch_ptr, n_atoms, coefficients,
                                noise, center},
         n_molecules, stream);
}

#define TITO_INSTANTIATE(T)                                                    \
  template void noisy_ode_step_fwd_cuda<T>(                                    \
      const T*, const T*, T*, const std::int64_t*, std::int64_t, std::int64_t, \
      const StageCoefficients<T>&, const StepNoise<T>&, bool, const Stream&);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace tito_fast
