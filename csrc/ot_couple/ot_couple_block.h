// What one CUDA block of one warp does for one molecule (common/cuda_launch.h), in double and in
// the order of the CPU version, whose results these are, bit by bit. A molecule with a coordinate
// that is not finite, or too large to square, becomes NaN.
// Letters: e element of a molecule's (n, 3) array, i atom.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "common/host_device.h"
#include "common/launch.h"
#include "ot_couple/assignment_block.h"
#include "ot_couple/kabsch.h"
#include "ot_couple/ot_couple.h"

namespace tito_fast {

// The best rotation of source onto target, (n, 3) each. Nine lanes each sum one element of the
// covariance, then all compute the same.
template <typename Block, typename T>
TITO_HOST_DEVICE Matrix3 warp_rotation(const Block& block, const T* source, const T* target,
                                       std::int64_t n) {
  const int element = block.lane() % 9;
  const T* const p = target + element / 3;
  const T* const q = source + element % 3;
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    sum += static_cast<double>(p[3 * i]) * static_cast<double>(q[3 * i]);
  }
  Matrix3 covariance;
  for (int r = 0; r < 3; ++r) {
    for (int c = 0; c < 3; ++c) covariance.at[r][c] = block.shuffle(sum, 3 * r + c);
  }
  return kabsch_rotation(covariance);
}

TITO_HOST_DEVICE double turned(const Matrix3& rotation, int axis, double x, double y, double z) {
  return rotation.at[axis][0] * x + rotation.at[axis][1] * y + rotation.at[axis][2] * z;
}

// Rotations: molecules of any size.
template <typename T>
struct OtCoupleRotations {
  static constexpr const char* kName = "ot_couple_fwd_rotations";
  static constexpr int kThreads = kLanesOfWarp;
  using Shared = NoShared;

  const T* x_0;
  const T* x_1;
  T* coupled;
  const std::int64_t* batch_ptr;
  std::int64_t n_atoms;

  std::string sizes() const { return "n_atoms = " + std::to_string(n_atoms); }

  template <typename Block>
  TITO_HOST_DEVICE void operator()(const Block& block, Shared&) const {
    const std::int64_t start = clamped_row(batch_ptr[block.index()], n_atoms);
    const std::int64_t n = clamped_row(batch_ptr[block.index() + 1], n_atoms) - start;
    if (n <= 0) return;
    const T* const source = x_0 + 3 * start;
    const T* const target = x_1 + 3 * start;
    T* const result = coupled + 3 * start;
    bool is_finite = true;
    for (std::int64_t e = block.lane(); e < 3 * n; e += kThreads) {
      is_finite = is_finite && std::isfinite(source[e]) && std::isfinite(target[e]);
    }
    const bool is_bad = block.ballot(!is_finite) != 0;
    const Matrix3 rotation =
        is_bad ? kabsch::identity_times(kabsch::kNan) : warp_rotation(block, source, target, n);
    for (std::int64_t i = block.lane(); i < n; i += kThreads) {
      const double x = static_cast<double>(source[3 * i]);
      const double y = static_cast<double>(source[3 * i + 1]);
      const double z = static_cast<double>(source[3 * i + 2]);
      for (int axis = 0; axis < 3; ++axis) {
        result[3 * i + axis] = static_cast<T>(turned(rotation, axis, x, y, z));
      }
    }
  }
};

// Permutations, and a rotation before or after: molecules of up to 32 kColumns atoms, others are
// left out.
template <typename T, int kColumns>
struct OtCouplePermutations {
  static constexpr const char* kName = "ot_couple_fwd_permutations";
  static constexpr int kThreads = kLanesOfWarp;
  using Shared = AssignmentShared<kColumns>;

  const T* x_0;
  const T* x_1;
  T* coupled;
  const std::int64_t* batch_ptr;
  std::int64_t n_atoms;
  CouplingSteps steps;

  std::string sizes() const {
    return "n_atoms = " + std::to_string(n_atoms) +
           ", at most in a molecule: " + std::to_string(Shared::kAtoms);
  }

  template <typename Block>
  TITO_HOST_DEVICE void operator()(const Block& block, Shared& shared) const {
    const std::int64_t start = clamped_row(batch_ptr[block.index()], n_atoms);
    const std::int64_t n_rows = clamped_row(batch_ptr[block.index() + 1], n_atoms) - start;
    if (n_rows <= 0 || n_rows > Shared::kAtoms) return;
    const int n = static_cast<int>(n_rows);
    bool is_finite = true;
    for (int e = block.lane(); e < 3 * n; e += kThreads) {
      shared.source[e] = static_cast<double>(x_0[3 * start + e]);
      shared.target[e] = static_cast<double>(x_1[3 * start + e]);
      is_finite = is_finite && std::isfinite(shared.source[e]) && std::isfinite(shared.target[e]);
    }
    block.sync_warp();
    bool is_good = block.ballot(!is_finite) == 0;
    if (is_good && steps.rotate && !steps.permute_first) rotate(block, shared, n);
    if (is_good) is_good = WarpAssignment<kColumns, Block>(block, shared, n).permute();
    if (is_good && steps.rotate && steps.permute_first) rotate(block, shared, n);
    for (int e = block.lane(); e < 3 * n; e += kThreads) {
      coupled[3 * start + e] = static_cast<T>(is_good ? shared.source[e] : kabsch::kNan);
    }
  }

  template <typename Block>
  TITO_HOST_DEVICE static void rotate(const Block& block, Shared& shared, int n) {
    const Matrix3 rotation = warp_rotation(block, shared.source, shared.target, n);
    block.sync_warp();  // All lanes have read.
    for (int i = block.lane(); i < n; i += kThreads) {
      const double x = shared.source[3 * i];
      const double y = shared.source[3 * i + 1];
      const double z = shared.source[3 * i + 2];
      for (int axis = 0; axis < 3; ++axis) {
        shared.source[3 * i + axis] = turned(rotation, axis, x, y, z);
      }
    }
    block.sync_warp();
  }
};

}  // namespace tito_fast
