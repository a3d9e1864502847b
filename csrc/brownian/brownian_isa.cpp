// Brownian dynamics with the vectors of one instruction set. One lane is one trajectory; lanes
// never mix and no operation is fused, so every instruction set gives the same bits.
#include "brownian/brownian_isa.h"

#include "brownian/brownian_forces.h"
#include "brownian/brownian_normals.h"

namespace tito_fast {
namespace TITO_ISA {
namespace {

// Vectors of a block: enough independent ones to hide how long one step takes.
constexpr int kVectors = 4;
constexpr int kLanes32 = kLanes<float>;
constexpr int kRows = kVectors * kLanes32;
constexpr int kStepsPerBlock = 4;  // a Philox block has four words

// Numbers of the trajectories of one vector: lane 2 j in even[j], lane 2 j + 1 in odd[j].
struct Numbers {
  Words even[kVectors];
  Words odd[kVectors];
};

TITO_INLINE Numbers numbers_from(std::int64_t first) {
  Numbers numbers;
  for (int v = 0; v < kVectors; ++v) {
    for (int j = 0; j < kBlocks; ++j) {
      const auto number = static_cast<std::uint64_t>(first + v * kLanes32 + 2 * j);
      numbers.even[v][j] = number;
      numbers.odd[v][j] = number + 1;
    }
  }
  return numbers;
}

TITO_INLINE Vec<float> widen(const float* normals, float /*selects*/) { return load(normals); }

TITO_INLINE Vec<double> widen(const float* normals, double /*selects*/) {
  typedef float Half
      __attribute__((vector_size(kVectorBytes / 2), aligned(sizeof(float)), may_alias));
  return __builtin_convertvector(*reinterpret_cast<const Half*>(normals), Vec<double>);
}

// Advances the rows of one block. positions[d][row] are theirs; rows from n_rows on are padding.
template <typename T, template <typename> class Potential>
void advance(const BrownianRun& run, std::int64_t first_row, int n_rows) {
  constexpr int kDims = Potential<T>::kDims;
  const Potential<T> potential(run.stiffness);
  const Vec<T> drift = broadcast(static_cast<T>(run.drift));
  const Vec<T> amplitude = broadcast(static_cast<T>(run.amplitude));
  const RoundKeys keys = round_keys(run.seed);
  const Numbers numbers = numbers_from(run.first_trajectory + first_row);

  T* const state = static_cast<T*>(run.state) + first_row * kDims;
  T* const frames = static_cast<T*>(run.frames) + first_row * run.n_frames * kDims;
  T positions[kDims][kRows] = {};
  for (int row = 0; row < n_rows; ++row) {
    for (int d = 0; d < kDims; ++d) positions[d][row] = state[row * kDims + d];
  }
  // The first frame that is not yet written, and how many steps it is away.
  const std::int64_t done = run.first_step - run.burn_in_steps;
  std::int64_t frame = done < 0 ? 0 : done / run.steps_per_frame + 1;
  std::int64_t until_frame = frame * run.steps_per_frame - done;

  float normals[kDims][kStepsPerBlock][kRows];
  for (std::int64_t step = run.first_step; step < run.end_step; step += kStepsPerBlock) {
    const auto block = static_cast<std::uint64_t>(step / kStepsPerBlock);
    for (int d = 0; d < kDims; ++d) {
      for (int v = 0; v < kVectors; ++v) {
        Vec<float> normal[kStepsPerBlock];
        step_normals(numbers.even[v], numbers.odd[v], block, static_cast<std::uint32_t>(d), keys,
                     normal);
        for (int k = 0; k < kStepsPerBlock; ++k) store(&normals[d][k][v * kLanes32], normal[k]);
      }
    }
    const std::int64_t left = run.end_step - step;
    const int n_here = left < kStepsPerBlock ? static_cast<int>(left) : kStepsPerBlock;
    for (int k = 0; k < n_here; ++k) {
      for (int row = 0; row < kRows; row += kLanes<T>) {
        Vec<T> position[kDims];
        Vec<T> force[kDims];
        for (int d = 0; d < kDims; ++d) position[d] = load(&positions[d][row]);
        potential.force(position, force);
        for (int d = 0; d < kDims; ++d) {
          const Vec<T> noise = amplitude * widen(&normals[d][k][row], T());
          store(&positions[d][row], position[d] + (drift * force[d] + noise));
        }
      }
      if (--until_frame > 0) continue;
      for (int row = 0; row < n_rows; ++row) {
        for (int d = 0; d < kDims; ++d) {
          frames[(row * run.n_frames + frame) * kDims + d] = positions[d][row];
        }
      }
      ++frame;
      until_frame = run.steps_per_frame;
    }
  }
  for (int row = 0; row < n_rows; ++row) {
    for (int d = 0; d < kDims; ++d) state[row * kDims + d] = positions[d][row];
  }
}

template <typename T>
void advance_block(const BrownianRun& run, std::int64_t first_row, int n_rows) {
  switch (run.potential) {
    case BrownianPotential::kPrinz:
      return advance<T, Prinz>(run, first_row, n_rows);
    case BrownianPotential::kMullerBrown:
      return advance<T, MullerBrown>(run, first_row, n_rows);
    case BrownianPotential::kHarmonic:
      return advance<T, Harmonic>(run, first_row, n_rows);
  }
}

}  // namespace

std::int64_t brownian_rows() { return kRows; }

void brownian_block(const BrownianRun& run, std::int64_t block) {
  const std::int64_t first_row = block * kRows;
  const std::int64_t left = run.n_trajectories - first_row;
  const int n_rows = left < kRows ? static_cast<int>(left) : kRows;
  if (run.is_double) {
    advance_block<double>(run, first_row, n_rows);
  } else {
    advance_block<float>(run, first_row, n_rows);
  }
}

void brownian_normals(std::uint64_t seed, std::uint32_t dim, std::int64_t n_trajectories,
                      std::int64_t n_steps, float* normals) {
  const RoundKeys keys = round_keys(seed);
  for (std::int64_t first = 0; first < n_trajectories; first += kRows) {
    const Numbers numbers = numbers_from(first);
    for (std::int64_t step = 0; step < n_steps; step += kStepsPerBlock) {
      for (int v = 0; v < kVectors; ++v) {
        Vec<float> normal[kStepsPerBlock];
        step_normals(numbers.even[v], numbers.odd[v],
                     static_cast<std::uint64_t>(step / kStepsPerBlock), dim, keys, normal);
        for (int lane = 0; lane < kLanes32; ++lane) {
          const std::int64_t trajectory = first + v * kLanes32 + lane;
          if (trajectory >= n_trajectories) break;
          for (int k = 0; k < kStepsPerBlock; ++k) {
            normals[trajectory * n_steps + step + k] = normal[k][lane];
          }
        }
      }
    }
  }
}

}  // namespace TITO_ISA
}  // namespace tito_fast
