// What one CUDA block does for one molecule (common/cuda_launch.h).
// Letters: e element of the flat (n_atoms * 3) array, k solver stage.
#pragma once

#include <cstdint>
#include <string>

#include "common/host_device.h"
#include "common/launch.h"
#include "ode_step/ode_step.h"

namespace tito_fast {

// 3 * 2^6: element e = 3 atom + axis, visited in steps of kStepThreads, keeps one axis per thread:
// axis = thread % 3.
constexpr int kStepThreads = 192;

struct StepShared {
  double sums[kStepThreads];
};

// Leaves the sums of the three axes in shared.sums[0 .. 2], from each thread's partial sum. The
// tree has a fixed shape, so the result is bitwise reproducible; strides are multiples of 3, so
// axes do not mix.
template <typename Block>
TITO_HOST_DEVICE void block_axis_sums(const Block& block, StepShared& shared, double partial) {
  const int thread = block.thread();
  shared.sums[thread] = partial;
  block.sync();
  for (int stride = kStepThreads / 2; stride >= 3; stride /= 2) {
    if (thread < stride) shared.sums[thread] += shared.sums[thread + stride];
    block.sync();
  }
}

// Mean of this thread's axis.
template <typename Block>
TITO_HOST_DEVICE double block_axis_mean(const Block& block, StepShared& shared, double partial,
                                        std::int64_t n_atoms_here) {
  block_axis_sums(block, shared, partial);
  return shared.sums[block.thread() % 3] / static_cast<double>(n_atoms_here);
}

// Writes next, the rows of molecule block.index().
template <typename T>
struct OdeStepForward {
  static constexpr const char* kName = "ode_step_fwd";
  static constexpr int kThreads = kStepThreads;
  using Shared = StepShared;

  const T* positions;
  const T* velocities;
  T* next;
  const std::int64_t* batch_ptr;
  std::int64_t n_atoms;
  StageCoefficients<T> coefficients;
  bool center;

  std::string sizes() const {
    return "n_atoms = " + std::to_string(n_atoms) +
           ", n_stages = " + std::to_string(coefficients.n_stages);
  }

  template <typename Block>
  TITO_HOST_DEVICE void operator()(const Block& block, Shared& shared) const {
    const std::int64_t start = clamped_row(batch_ptr[block.index()], n_atoms);
    const std::int64_t end = clamped_row(batch_ptr[block.index() + 1], n_atoms);
    if (start >= end) return;
    double partial = 0.0;
    for (std::int64_t e = 3 * start + block.thread(); e < 3 * end; e += kThreads) {
      T step = T(0);
      for (std::int64_t k = 0; k < coefficients.n_stages; ++k) {
        step += coefficients.value[k] * velocities[k * 3 * n_atoms + e];
      }
      const T moved = positions[e] + step;
      next[e] = moved;
      partial += static_cast<double>(moved);
    }
    if (!center) return;
    const double mean = block_axis_mean(block, shared, partial, end - start);
    // Each thread reads back only what it wrote itself: no barrier is needed.
    for (std::int64_t e = 3 * start + block.thread(); e < 3 * end; e += kThreads) {
      next[e] = static_cast<T>(static_cast<double>(next[e]) - mean);
    }
  }
};

// Writes grad_positions and each grad_velocities[k], the rows of molecule block.index().
template <typename T>
struct OdeStepBackward {
  static constexpr const char* kName = "ode_step_bwd";
  static constexpr int kThreads = kStepThreads;
  using Shared = StepShared;

  const T* grad;
  T* grad_positions;
  T* grad_velocities;
  const std::int64_t* batch_ptr;
  std::int64_t n_atoms;
  StageCoefficients<T> coefficients;
  bool center;

  std::string sizes() const {
    return "n_atoms = " + std::to_string(n_atoms) +
           ", n_stages = " + std::to_string(coefficients.n_stages);
  }

  template <typename Block>
  TITO_HOST_DEVICE void operator()(const Block& block, Shared& shared) const {
    const std::int64_t start = clamped_row(batch_ptr[block.index()], n_atoms);
    const std::int64_t end = clamped_row(batch_ptr[block.index() + 1], n_atoms);
    if (start >= end) return;
    double mean = 0.0;
    if (center) {
      double partial = 0.0;
      for (std::int64_t e = 3 * start + block.thread(); e < 3 * end; e += kThreads) {
        partial += static_cast<double>(grad[e]);
      }
      mean = block_axis_mean(block, shared, partial, end - start);
    }
    for (std::int64_t e = 3 * start + block.thread(); e < 3 * end; e += kThreads) {
      const T projected = static_cast<T>(static_cast<double>(grad[e]) - mean);
      grad_positions[e] = projected;
      for (std::int64_t k = 0; k < coefficients.n_stages; ++k) {
        grad_velocities[k * 3 * n_atoms + e] = coefficients.value[k] * projected;
      }
    }
  }
};

}  // namespace tito_fast
