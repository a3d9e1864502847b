// Each molecule is done by one thread from its first atom to its last, so that the result does not
// depend on the number of threads or on the other molecules.
#include <cstdint>
#include <stdexcept>
#include <string>

#include "common/batch.h"
#include "common/center.h"
#include "ode_step/ode_step.h"

namespace tito_fast {
namespace {

void check_replicas(const std::int64_t* replicas, std::int64_t n_molecules) {
  constexpr std::int64_t kMaxWord = 0xFFFFFFFF;
  for (std::int64_t m = 0; m < n_molecules; ++m) {
    if (replicas[m] < 0 || replicas[m] > kMaxWord) {
      throw std::invalid_argument("replicas: expected 0 to 2**32 - 1, got " +
                                  std::to_string(replicas[m]));
    }
  }
}

}  // namespace

template <typename T>
void noisy_ode_step_fwd_cpu(const T* positions, const T* velocities, T* next,
                            const std::int64_t* batch_ptr, std::int64_t n_atoms,
                            std::int64_t n_molecules, const StageCoefficients<T>& coefficients,
                            const StepNoise<T>& noise, bool center, int n_threads) {
  check_batch_ptr(batch_ptr, n_molecules, n_atoms);
  check_replicas(noise.replicas, n_molecules);
  constexpr std::int64_t kNormalsAtOnce = 1024;
  constexpr std::int64_t kWorkPerNormal = 4;
  [[maybe_unused]] const int threads =
      threads_for(3 * n_atoms * (coefficients.n_stages + 2 + kWorkPerNormal), n_threads);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (std::int64_t m = 0; m < n_molecules; ++m) {
    const std::int64_t start = batch_ptr[m];
    const std::int64_t end = batch_ptr[m + 1];
    float normals[kNormalsAtOnce];
    for (std::int64_t first = 3 * start; first < 3 * end; first += kNormalsAtOnce) {
      const std::int64_t left = 3 * end - first;
      const std::int64_t n_here = left < kNormalsAtOnce ? left : kNormalsAtOnce;
      const std::int64_t value = first - 3 * start;
      philox_normal_row(static_cast<std::uint64_t>(noise.keys[m]),
                        static_cast<std::uint32_t>(noise.replicas[m]), noise.step, value,
                        value + n_here, normals);
      for (std::int64_t n = 0; n < n_here; ++n) {
        const std::int64_t e = first + n;
        T step = T(0);
        for (std::int64_t k = 0; k < coefficients.n_stages; ++k) {
          step += coefficients.value[k] * velocities[k * 3 * n_atoms + e];
        }
        next[e] = (positions[e] + step) + noise.scale * static_cast<T>(normals[n]);
      }
    }
    if (center) center_rows(next, start, end);
  }
}

#define TITO_INSTANTIATE(T)                                                                        \
  template void noisy_ode_step_fwd_cpu<T>(const T*, const T*, T*, const std::int64_t*,             \
                                          std::int64_t, std::int64_t, const StageCoefficients<T>&, \
                                          const StepNoise<T>&, bool, int);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace tito_fast
