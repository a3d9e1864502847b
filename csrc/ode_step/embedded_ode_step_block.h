// What one CUDA block does for one molecule of an embedded step (common/cuda_launch.h).
// Letters: e element of the flat (n_atoms * 3) array, k solver stage.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "common/host_device.h"
#include "common/launch.h"
#include "ode_step/embedded_error.h"
#include "ode_step/ode_step_block.h"

namespace tito_fast {

template <typename T>
struct EmbeddedStepShared {
  StepShared step;
  T coefficients[kMaxStages];
  double error_coefficients[kMaxStages];
};

// Writes next, the rows of molecule block.index(), and error[block.index()].
template <typename T>
struct EmbeddedOdeStepForward {
  static constexpr const char* kName = "embedded_ode_step_fwd";
  static constexpr int kThreads = kStepThreads;
  using Shared = EmbeddedStepShared<T>;

  const T* positions;
  const T* velocities;
  T* next;
  T* error;
  const std::int64_t* batch_ptr;
  std::int64_t n_atoms;
  EmbeddedPair<T> pair;
  bool center;

  std::string sizes() const {
    return "n_atoms = " + std::to_string(n_atoms) +
           ", n_stages = " + std::to_string(pair.weights.n_stages);
  }

  TITO_HOST_DEVICE double error_of(std::int64_t e, const Shared& shared) const {
    return step_error(velocities, e, 3 * n_atoms, shared.error_coefficients,
                      pair.error_weights.n_stages);
  }

  template <typename Block>
  TITO_HOST_DEVICE void operator()(const Block& block, Shared& shared) const {
    const std::int64_t molecule = block.index();
    const int thread = block.thread();
    const std::int64_t start = clamped_row(batch_ptr[molecule], n_atoms);
    const std::int64_t end = clamped_row(batch_ptr[molecule + 1], n_atoms);
    if (start >= end) {
      if (thread == 0) error[molecule] = T(0);
      return;
    }
    if (thread < pair.weights.n_stages) {
      const double step_size = static_cast<double>(pair.step_sizes[molecule]);
      shared.coefficients[thread] = static_cast<T>(step_size * pair.weights.value[thread]);
      shared.error_coefficients[thread] = step_size * pair.error_weights.value[thread];
    }
    block.sync();

    double partial = 0.0;
    double partial_error = 0.0;
    for (std::int64_t e = 3 * start + thread; e < 3 * end; e += kThreads) {
      T step = T(0);
      for (std::int64_t k = 0; k < pair.weights.n_stages; ++k) {
        step += shared.coefficients[k] * velocities[k * 3 * n_atoms + e];
      }
      const T moved = positions[e] + step;
      next[e] = moved;
      partial += static_cast<double>(moved);
      if (center) partial_error += error_of(e, shared);
    }
    double mean = 0.0;
    double mean_error = 0.0;
    if (center) {
      mean = block_axis_mean(block, shared.step, partial, end - start);
      block.sync();  // every thread has read its mean
      mean_error = block_axis_mean(block, shared.step, partial_error, end - start);
      block.sync();
    }
    // The error is computed a second time: it would not fit into registers for every size. Each
    // thread reads back only what it wrote itself.
    double partial_square = 0.0;
    for (std::int64_t e = 3 * start + thread; e < 3 * end; e += kThreads) {
      T moved = next[e];
      if (center) {
        moved = static_cast<T>(static_cast<double>(moved) - mean);
        next[e] = moved;
      }
      partial_square += scaled_square(error_of(e, shared) - mean_error,
                                      static_cast<double>(positions[e]), static_cast<double>(moved),
                                      pair.absolute_tolerance, pair.relative_tolerance);
    }
    block_axis_sums(block, shared.step, partial_square);
    if (thread != 0) return;
    const double* const sums = shared.step.sums;
    const double total = (sums[0] + sums[1]) + sums[2];
    error[molecule] = static_cast<T>(std::sqrt(total / static_cast<double>(3 * (end - start))));
  }
};

}  // namespace tito_fast
