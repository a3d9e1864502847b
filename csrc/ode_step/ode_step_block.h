// What one CUDA block does for one molecule, written over a small context so that the same source
// runs on the host in tests. The context gives
//   thread()     index of this thread in the block
//   n_threads()  threads in the block: 3 * 2^p, so that element e = 3 atom + axis, visited in steps
//                of n_threads(), keeps one axis per thread: axis = thread % 3
//   sync()       block-wide barrier
//   shared()     n_threads() doubles
// Letters: e element of the flat (n_atoms * 3) array, k solver stage.
#pragma once

#include <cstdint>

#include "common/host_device.h"
#include "ode_step/ode_step.h"

namespace tito_fast {

// Mean of this thread's axis from each thread's partial sum. The tree has a fixed shape, so the
// result is bitwise reproducible; strides are multiples of 3, so axes do not mix.
template <typename Context>
TITO_HOST_DEVICE double block_axis_mean(const Context& context, double partial,
                                        std::int64_t n_atoms_here) {
  double* const shared = context.shared();
  shared[context.thread()] = partial;
  context.sync();
  for (int stride = context.n_threads() / 2; stride >= 3; stride /= 2) {
    if (context.thread() < stride) {
      shared[context.thread()] += shared[context.thread() + stride];
    }
    context.sync();
  }
  return shared[context.thread() % 3] / static_cast<double>(n_atoms_here);
}

// Writes next[3 start .. 3 end).
template <typename T, typename Context>
TITO_HOST_DEVICE void ode_step_fwd_block(const Context& context, const T* positions,
                                         const T* velocities, T* next, std::int64_t start,
                                         std::int64_t end, std::int64_t n_atoms,
                                         const StageCoefficients<T>& coefficients, bool center) {
  double partial = 0.0;
  for (std::int64_t e = 3 * start + context.thread(); e < 3 * end; e += context.n_threads()) {
    T step = T(0);
    for (std::int64_t k = 0; k < coefficients.n_stages; ++k) {
      step += coefficients.value[k] * velocities[k * 3 * n_atoms + e];
    }
    const T moved = positions[e] + step;
    next[e] = moved;
    partial += static_cast<double>(moved);
  }
  if (!center) return;
  const double mean = block_axis_mean(context, partial, end - start);
  // Each thread reads back only what it wrote itself: no barrier is needed.
  for (std::int64_t e = 3 * start + context.thread(); e < 3 * end; e += context.n_threads()) {
    next[e] = static_cast<T>(static_cast<double>(next[e]) - mean);
  }
}

// Writes grad_positions[3 start .. 3 end) and the same rows of each grad_velocities[k].
template <typename T, typename Context>
TITO_HOST_DEVICE void ode_step_bwd_block(const Context& context, const T* grad, T* grad_positions,
                                         T* grad_velocities, std::int64_t start, std::int64_t end,
                                         std::int64_t n_atoms,
                                         const StageCoefficients<T>& coefficients, bool center) {
  double mean = 0.0;
  if (center) {
    double partial = 0.0;
    for (std::int64_t e = 3 * start + context.thread(); e < 3 * end; e += context.n_threads()) {
      partial += static_cast<double>(grad[e]);
    }
    mean = block_axis_mean(context, partial, end - start);
  }
  for (std::int64_t e = 3 * start + context.thread(); e < 3 * end; e += context.n_threads()) {
    const T projected = static_cast<T>(static_cast<double>(grad[e]) - mean);
    grad_positions[e] = projected;
    for (std::int64_t k = 0; k < coefficients.n_stages; ++k) {
      grad_velocities[k * 3 * n_atoms + e] = coefficients.value[k] * projected;
    }
  }
}

}  // namespace tito_fast
