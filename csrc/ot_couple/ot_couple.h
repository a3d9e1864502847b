// Optimal-transport coupling of base samples to data, molecule by molecule.
#pragma once

#include <cstdint>

namespace tito_fast {

// What is done to x_0, in this order.
struct CouplingSteps {
  bool permute_first;
  bool rotate;
  bool permute_last;
};

// Writes coupled (n_atoms, 3) from x_0 and x_1, coordinates as given (about the origin).
template <typename T>
void ot_couple_fwd_cpu(const T* x_0, const T* x_1, T* coupled, const std::int64_t* batch_ptr,
                       std::int64_t n_atoms, std::int64_t n_molecules, CouplingSteps steps,
                       int n_threads);

}  // namespace tito_fast
