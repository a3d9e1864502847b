// Brownian dynamics under a sanitizer: every potential, blocks that are not full, parts of runs.
#pragma once

#include <cstdint>

#include "brownian/brownian.h"
#include "kernel_arrays.h"

namespace tito_fast_test {

template <typename T>
void brownian(int n_threads) {
  using tito_fast::BrownianPotential;
  for (const BrownianPotential potential :
       {BrownianPotential::kPrinz, BrownianPotential::kMullerBrown, BrownianPotential::kHarmonic}) {
    const std::int64_t n_dims = potential == BrownianPotential::kMullerBrown ? 2 : 1;
    for (const std::int64_t n : {0, 1, 63, 129}) {
      const std::int64_t n_frames = 3;
      const Array<T> state(n * n_dims);
      for (T& x : state) x = T(0.25);
      const auto frames = Array<T>::output(n * n_frames * n_dims);
      // Frames 0, 1, 2 after 5, 12, 19 steps; the parts end within frames and within blocks.
      tito_fast::BrownianRun run{
          potential, sizeof(T) == 8, 1.0,          1e-5, 1e-3, ~0ULL, 7, n, n_frames, 7, 5, 0,
          8,         state.data(),   frames.data()};
      tito_fast::brownian_cpu(run, n_threads);
      run.first_step = 8;
      run.end_step = 19;
      tito_fast::brownian_cpu(run, n_threads);
      frames.check("brownian");
      state.check("brownian state");
    }
  }
  for (const std::int64_t n : {0, 1, 63, 129}) {
    const auto normals = Array<float>::output(n * 12);
    tito_fast::brownian_normals_cpu(1, 0, n, 12, normals.data());
    normals.check("brownian_normals");
  }
}

}  // namespace tito_fast_test
