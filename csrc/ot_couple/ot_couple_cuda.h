// ot_couple on a CUDA device; arrays as in ot_couple.h, steps with one permutation at most.
#pragma once

#include <cstdint>

#include "common/launch.h"
#include "ot_couple/ot_couple.h"

namespace tito_fast {

// Atoms of a molecule that the kernel of permutations takes.
constexpr int kMaxCudaAtoms = 128;

// Rotations alone, for molecules of any size.
template <typename T>
void ot_couple_fwd_rotations_cuda(const T* x_0, const T* x_1, T* coupled,
                                  const std::int64_t* batch_ptr, std::int64_t n_atoms,
                                  std::int64_t n_molecules, const Stream& stream);

// max_atoms: of the largest molecule, at most kMaxCudaAtoms.
template <typename T>
void ot_couple_fwd_permutations_cuda(const T* x_0, const T* x_1, T* coupled,
                                     const std::int64_t* batch_ptr, std::int64_t n_atoms,
                                     std::int64_t n_molecules, CouplingSteps steps, int max_atoms,
                                     const Stream& stream);

}  // namespace tito_fast
