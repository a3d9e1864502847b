// One block of one warp per molecule, one launch. Permutations come in three sizes, so that small
// molecules take few registers and little shared memory, and more of them run at once.
#include <stdexcept>
#include <string>

#include "common/cuda_launch.h"
#include "ot_couple/ot_couple_block.h"
#include "ot_couple/ot_couple_cuda.h"

namespace tito_fast {

template <typename T>
void ot_couple_fwd_rotations_cuda(const T* x_0, const T* x_1, T* coupled,
                                  const std::int64_t* batch_ptr, std::int64_t n_atoms,
                                  std::int64_t n_molecules, const Stream& stream) {
  launch(OtCoupleRotations<T>{x_0, x_1, coupled, batch_ptr, n_atoms}, n_molecules, stream);
}

template <typename T>
void ot_couple_fwd_permutations_cuda(const T* x_0, const T* x_1, T* coupled,
                                     const std::int64_t* batch_ptr, std::int64_t n_atoms,
                                     std::int64_t n_molecules, CouplingSteps steps, int max_atoms,
                                     const Stream& stream) {
  if (max_atoms <= 32) {
    launch(OtCouplePermutations<T, 1>{x_0, x_1, coupled, batch_ptr, n_atoms, steps}, n_molecules,
           stream);
  } else if (max_atoms <= 64) {
    launch(OtCouplePermutations<T, 2>{x_0, x_1, coupled, batch_ptr, n_atoms, steps}, n_molecules,
           stream);
  } else if (max_atoms <= kMaxCudaAtoms) {
    launch(OtCouplePermutations<T, 4>{x_0, x_1, coupled, batch_ptr, n_atoms, steps}, n_molecules,
           stream);
  } else {
    throw std::invalid_argument("max_atoms: expected at most " + std::to_string(kMaxCudaAtoms) +
                                ", got " + std::to_string(max_atoms));
  }
}

#define TITO_INSTANTIATE(T)                                                                        \
  template void ot_couple_fwd_rotations_cuda<T>(const T*, const T*, T*, const std::int64_t*,       \
                                                std::int64_t, std::int64_t, const Stream&);        \
  template void ot_couple_fwd_permutations_cuda<T>(const T*, const T*, T*, const std::int64_t*,    \
                                                   std::int64_t, std::int64_t, CouplingSteps, int, \
                                                   const Stream&);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace tito_fast
