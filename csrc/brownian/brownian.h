// Trajectories of Brownian dynamics (Euler-Maruyama) in potentials of one or two dimensions.
#pragma once

#include <cstdint>

namespace tito_fast {

enum class BrownianPotential { kPrinz = 0, kMullerBrown = 1, kHarmonic = 2 };

// A part of a simulation: some trajectories, steps first_step .. end_step of them. One step is
//   x += drift F(x) + amplitude n,   drift = h / friction, amplitude = sqrt(2 kT h / friction).
// The normal n of trajectory i, dimension d, step s is number s % 4 of the Philox block with
// counter (s / 4 low, s / 4 high, i, d) under the key seed, so nothing that a trajectory is
// computed with or by changes it.
struct BrownianRun {
  BrownianPotential potential;
  bool is_double;
  double stiffness;  // of the harmonic potential
  double drift;
  double amplitude;
  std::uint64_t seed;
  std::int64_t first_trajectory;  // number i of row 0
  std::int64_t n_trajectories;
  std::int64_t n_frames;  // of a row of frames
  std::int64_t
      steps_per_frame;  // frame f is the state after burn_in_steps + f steps_per_frame steps
  std::int64_t burn_in_steps;
  std::int64_t first_step;  // a multiple of four
  std::int64_t end_step;
  void* state;   // (n_trajectories, n_dims): read, and left as after end_step steps
  void* frames;  // (n_trajectories, n_frames, n_dims): those after first_step are written
};

void brownian_cpu(const BrownianRun& run, int n_threads);

// normals (n_trajectories, n_steps) of steps 0 .. n_steps, a multiple of four, of one dimension.
void brownian_normals_cpu(std::uint64_t seed, std::uint32_t dim, std::int64_t n_trajectories,
                          std::int64_t n_steps, float* normals);

}  // namespace tito_fast
