// The readout of all rows, then each molecule's step, by one thread from its first atom to its
// last. The backward of the step, with C the centring: dx' = C d(new positions),
//   d(gate (V v)) = C (d velocity + h dx'),  d positions = dx' + that.
#include <new>

#include "common/batch.h"
#include "common/center.h"
#include "common/isa.h"
#include "readout_step/readout_step.h"

namespace tito_fast {

#define TITO_DECLARE(isa)                                                                   \
  namespace isa {                                                                           \
  template <typename T>                                                                     \
  bool readout_fwd(const Readout<const T>& readout, const ReadoutArrays<T>& arrays, T* out, \
                   int n_threads);                                                          \
  template <typename T>                                                                     \
  bool readout_bwd(const Readout<const T>& readout, const ReadoutArrays<T>& arrays,         \
                   const ReadoutGradients<T>& gradients, int n_threads);                    \
  }
TITO_FOR_EACH_ISA(TITO_DECLARE)
#undef TITO_DECLARE

namespace {

template <typename T>
bool forward(const Readout<const T>& readout, const ReadoutArrays<T>& arrays, T* out,
             int n_threads) {
  TITO_DISPATCH(readout_fwd<T>(readout, arrays, out, n_threads));
}

template <typename T>
bool backward(const Readout<const T>& readout, const ReadoutArrays<T>& arrays,
              const ReadoutGradients<T>& gradients, int n_threads) {
  TITO_DISPATCH(readout_bwd<T>(readout, arrays, gradients, n_threads));
}

}  // namespace

template <typename T>
void readout_step_fwd_cpu(const Readout<const T>& readout, const ReadoutArrays<T>& arrays,
                          const StepMolecules& molecules, const StepArrays<T>& step, T step_size,
                          int n_threads) {
  check_batch_ptr(molecules.batch_ptr, molecules.n_molecules, arrays.n_rows);
  if (!forward(readout, arrays, step.velocity, n_threads)) throw std::bad_alloc();
  [[maybe_unused]] const int threads = threads_for(3 * arrays.n_rows * 4, n_threads);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (std::int64_t m = 0; m < molecules.n_molecules; ++m) {
    const std::int64_t start = molecules.batch_ptr[m];
    const std::int64_t end = molecules.batch_ptr[m + 1];
    for (std::int64_t e = 3 * start; e < 3 * end; ++e) {
      step.velocity[e] = step.positions[e] + step.velocity[e];
    }
    center_rows(step.velocity, start, end);
    for (std::int64_t e = 3 * start; e < 3 * end; ++e) {
      step.new_positions[e] = step.positions[e] + step_size * step.velocity[e];
    }
    center_rows(step.new_positions, start, end);
  }
}

template <typename T>
void readout_step_bwd_cpu(const Readout<const T>& readout, const ReadoutArrays<T>& arrays,
                          const StepMolecules& molecules, const StepGradients<T>& step, T step_size,
                          const ReadoutGradients<T>& gradients, int n_threads) {
  check_batch_ptr(molecules.batch_ptr, molecules.n_molecules, arrays.n_rows);
  [[maybe_unused]] const int threads = threads_for(3 * arrays.n_rows * 4, n_threads);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (std::int64_t m = 0; m < molecules.n_molecules; ++m) {
    const std::int64_t start = molecules.batch_ptr[m];
    const std::int64_t end = molecules.batch_ptr[m + 1];
    T* const grad_positions = step.grad_positions;
    for (std::int64_t e = 3 * start; e < 3 * end; ++e) {
      grad_positions[e] = step.grad_new_positions[e];
    }
    center_rows(grad_positions, start, end);
    for (std::int64_t e = 3 * start; e < 3 * end; ++e) {
      step.grad_readout[e] = step.grad_velocity[e] + step_size * grad_positions[e];
    }
    center_rows(step.grad_readout, start, end);
    for (std::int64_t e = 3 * start; e < 3 * end; ++e) grad_positions[e] += step.grad_readout[e];
  }
  if (!backward(readout, arrays, gradients, n_threads)) throw std::bad_alloc();
}

#define TITO_INSTANTIATE(T)                                                                  \
  template void readout_step_fwd_cpu<T>(const Readout<const T>&, const ReadoutArrays<T>&,    \
                                        const StepMolecules&, const StepArrays<T>&, T, int); \
  template void readout_step_bwd_cpu<T>(const Readout<const T>&, const ReadoutArrays<T>&,    \
                                        const StepMolecules&, const StepGradients<T>&, T,    \
                                        const ReadoutGradients<T>&, int);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace tito_fast
