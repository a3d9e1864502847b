// What one CUDA block does for one molecule of a noisy step (common/cuda_launch.h).
// Letters: e element of the flat (n_atoms * 3) array, k solver stage.
#pragma once

#include <cstdint>
#include <string>

#include "common/host_device.h"
#include "common/launch.h"
#include "ode_step/ode_step_block.h"
#include "philox_normal/normals_block.h"

namespace tito_fast {

// Normals are drawn four by a thread, then taken one by one: element e is thread e % kStepThreads',
// as everywhere, so that memory is read in order and a thread keeps its axis.
constexpr int kNormalsAtOnce = 4 * kStepThreads;

struct NoisyStepShared {
  StepShared step;
  float normals[kNormalsAtOnce];
};

// Writes next, the rows of molecule block.index().
template <typename T>
struct NoisyOdeStepForward {
  static constexpr const char* kName = "noisy_ode_step_fwd";
  static constexpr int kThreads = kStepThreads;
  using Shared = NoisyStepShared;

  const T* positions;
  const T* velocities;
  T* next;
  const std::int64_t* batch_ptr;
  std::int64_t n_atoms;
  StageCoefficients<T> coefficients;
  StepNoise<T> noise;
  bool center;

  std::string sizes() const {
    return "n_atoms = " + std::to_string(n_atoms) +
           ", n_stages = " + std::to_string(coefficients.n_stages);
  }

  // Values first .. first + n_here of this molecule's row, four by a thread.
  template <typename Block>
  TITO_HOST_DEVICE void draw(const Block& block, Shared& shared, std::int64_t first,
                             int n_here) const {
    const int n = 4 * block.thread();
    if (n >= n_here) return;
    const std::int64_t molecule = block.index();
    const FourNormals four = normals_of_block(noise.keys[molecule], noise.replicas[molecule],
                                              noise.step, (first + n) / 4);
    for (int i = 0; i < 4; ++i) shared.normals[n + i] = four.value[i];
  }

  template <typename Block>
  TITO_HOST_DEVICE void operator()(const Block& block, Shared& shared) const {
    const std::int64_t start = clamped_row(batch_ptr[block.index()], n_atoms);
    const std::int64_t end = clamped_row(batch_ptr[block.index() + 1], n_atoms);
    if (start >= end) return;
    double partial = 0.0;
    for (std::int64_t first = 3 * start; first < 3 * end; first += kNormalsAtOnce) {
      const std::int64_t left = 3 * end - first;
      const int n_here = left < kNormalsAtOnce ? static_cast<int>(left) : kNormalsAtOnce;
      block.sync();  // those before have been read
      draw(block, shared, first - 3 * start, n_here);
      block.sync();
      for (int n = block.thread(); n < n_here; n += kThreads) {
        T step = T(0);
        for (std::int64_t k = 0; k < coefficients.n_stages; ++k) {
          step += coefficients.value[k] * velocities[k * 3 * n_atoms + first + n];
        }
        const T moved =
            (positions[first + n] + step) + noise.scale * static_cast<T>(shared.normals[n]);
        next[first + n] = moved;
        partial += static_cast<double>(moved);
      }
    }
    if (!center) return;
    const double mean = block_axis_mean(block, shared.step, partial, end - start);
    // Each thread reads back only what it wrote itself: no barrier is needed.
    for (std::int64_t e = 3 * start + block.thread(); e < 3 * end; e += kThreads) {
      next[e] = static_cast<T>(static_cast<double>(next[e]) - mean);
    }
  }
};

}  // namespace tito_fast
