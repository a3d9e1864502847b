// Each molecule is done by one thread from its first atom to its last, so that the result does not
// depend on the number of threads or on the other molecules.
#include <cmath>
#include <cstdint>

#include "common/batch.h"
#include "common/center.h"
#include "ode_step/embedded_error.h"
#include "ode_step/ode_step.h"

namespace tito_fast {
namespace {

// One molecule, the rows start .. end.
template <typename T>
class Step {
 public:
  Step(const T* velocities, std::int64_t n_atoms, const EmbeddedPair<T>& pair, T step_size)
      : velocities_(velocities), stride_(3 * n_atoms), n_stages_(pair.weights.n_stages) {
    const auto size = static_cast<double>(step_size);
    for (int k = 0; k < n_stages_; ++k) {
      coefficients_[k] = static_cast<T>(size * pair.weights.value[k]);
      error_coefficients_[k] = size * pair.error_weights.value[k];
    }
  }

  T change(std::int64_t e) const {
    T step = T(0);
    for (std::int64_t k = 0; k < n_stages_; ++k) {
      step += coefficients_[k] * velocities_[k * stride_ + e];
    }
    return step;
  }

  double error(std::int64_t e) const {
    return step_error(velocities_, e, stride_, error_coefficients_, n_stages_);
  }

 private:
  const T* velocities_;
  std::int64_t stride_;
  int n_stages_;
  T coefficients_[kMaxStages];
  double error_coefficients_[kMaxStages];
};

}  // namespace

template <typename T>
void embedded_ode_step_fwd_cpu(const T* positions, const T* velocities, T* next, T* error,
                               const std::int64_t* batch_ptr, std::int64_t n_atoms,
                               std::int64_t n_molecules, const EmbeddedPair<T>& pair, bool center,
                               int n_threads) {
  check_batch_ptr(batch_ptr, n_molecules, n_atoms);
  [[maybe_unused]] const int threads =
      threads_for(3 * n_atoms * 3 * (pair.weights.n_stages + 2), n_threads);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (std::int64_t m = 0; m < n_molecules; ++m) {
    const std::int64_t start = batch_ptr[m];
    const std::int64_t end = batch_ptr[m + 1];
    error[m] = T(0);
    if (start == end) continue;
    const Step<T> step(velocities, n_atoms, pair, pair.step_sizes[m]);
    const auto n = static_cast<double>(end - start);
    double mean_error[3] = {0.0, 0.0, 0.0};
    for (std::int64_t i = start; i < end; ++i) {
      for (int c = 0; c < 3; ++c) {
        const std::int64_t e = 3 * i + c;
        next[e] = positions[e] + step.change(e);
        if (center) mean_error[c] += step.error(e);
      }
    }
    for (double& mean : mean_error) mean /= n;
    if (center) center_rows(next, start, end);
    double total = 0.0;
    for (std::int64_t i = start; i < end; ++i) {
      for (int c = 0; c < 3; ++c) {
        const std::int64_t e = 3 * i + c;
        total += scaled_square(step.error(e) - mean_error[c], static_cast<double>(positions[e]),
                               static_cast<double>(next[e]), pair.absolute_tolerance,
                               pair.relative_tolerance);
      }
    }
    error[m] = static_cast<T>(std::sqrt(total / (3.0 * n)));
  }
}

#define TITO_INSTANTIATE(T)                                                                      \
  template void embedded_ode_step_fwd_cpu<T>(const T*, const T*, T*, T*, const std::int64_t*,    \
                                             std::int64_t, std::int64_t, const EmbeddedPair<T>&, \
                                             bool, int);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace tito_fast
