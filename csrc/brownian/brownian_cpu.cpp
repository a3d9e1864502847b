#include <stdexcept>
#include <string>

#include "brownian/brownian.h"
#include "brownian/brownian_isa.h"
#include "common/batch.h"
#include "common/isa.h"

namespace tito_fast {
namespace {

std::int64_t rows_of_block() { TITO_DISPATCH(brownian_rows()); }

void run_block(const BrownianRun& run, std::int64_t block) {
  TITO_DISPATCH(brownian_block(run, block));
}

}  // namespace

void brownian_cpu(const BrownianRun& run, int n_threads) {
  if (run.first_step < 0 || run.first_step % 4 != 0) {
    throw std::invalid_argument("first_step: expected a multiple of four from zero up, got " +
                                std::to_string(run.first_step));
  }
  const std::int64_t last_frame =
      (run.end_step - run.burn_in_steps) / (run.steps_per_frame > 0 ? run.steps_per_frame : 1);
  if (run.steps_per_frame < 1 || run.burn_in_steps < 0 || last_frame >= run.n_frames) {
    throw std::invalid_argument("end_step: expected to end before frame " +
                                std::to_string(run.n_frames) + ", got " +
                                std::to_string(run.end_step));
  }
  constexpr std::int64_t kWorkPerStep = 4;
  const std::int64_t rows = rows_of_block();
  const std::int64_t n_blocks = (run.n_trajectories + rows - 1) / rows;
  [[maybe_unused]] const int threads =
      threads_for(run.n_trajectories * (run.end_step - run.first_step) * kWorkPerStep, n_threads);
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
  for (std::int64_t block = 0; block < n_blocks; ++block) run_block(run, block);
}

void brownian_normals_cpu(std::uint64_t seed, std::uint32_t dim, std::int64_t n_trajectories,
                          std::int64_t n_steps, float* normals) {
  TITO_DISPATCH(brownian_normals(seed, dim, n_trajectories, n_steps, normals));
}

}  // namespace tito_fast
