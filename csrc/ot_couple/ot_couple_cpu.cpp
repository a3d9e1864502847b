// Each molecule is done by one thread in double precision, so that the result does not depend on
// the number of threads or on the other molecules.
#include <atomic>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/batch.h"
#include "ot_couple/assignment.h"
#include "ot_couple/kabsch.h"
#include "ot_couple/ot_couple.h"

namespace tito_fast {
namespace {

// Buffers of one thread, kept from molecule to molecule.
struct Workspace {
  std::vector<double> coupled;   // (n, 3)
  std::vector<double> target;    // (n, 3)
  std::vector<double> shuffled;  // (n, 3)
  std::vector<double> cost;      // (n, n)
  AssignmentSolver solver;
};

// coupled[i] <- coupled[j(i)] with j minimising sum_i |target[i] - coupled[j(i)]|^2; false, and
// nothing done, if a squared distance is above kMaxCost or not a number.
bool permute(Workspace& work, std::ptrdiff_t n) {
  const double* const coupled = work.coupled.data();
  const double* const target = work.target.data();
  work.cost.resize(static_cast<std::size_t>(n * n));
  bool is_good = true;
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const double x = target[3 * i];
    const double y = target[3 * i + 1];
    const double z = target[3 * i + 2];
    double* const row = work.cost.data() + i * n;
    for (std::ptrdiff_t j = 0; j < n; ++j) {
      const double dx = x - coupled[3 * j];
      const double dy = y - coupled[3 * j + 1];
      const double dz = z - coupled[3 * j + 2];
      row[j] = dx * dx + dy * dy + dz * dz;
      is_good &= row[j] <= kMaxCost;
    }
  }
  if (!is_good) return false;
  const std::vector<int>& column_of_row = work.solver.solve(work.cost.data(), static_cast<int>(n));
  work.shuffled.resize(static_cast<std::size_t>(3 * n));
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    for (int c = 0; c < 3; ++c)
      work.shuffled[3 * i + c] = coupled[3 * std::ptrdiff_t{column_of_row[i]} + c];
  }
  work.coupled.swap(work.shuffled);
  return true;
}

void rotate(Workspace& work, std::ptrdiff_t n) {
  Matrix3 covariance{};
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    const double* const p = work.target.data() + 3 * i;
    const double* const q = work.coupled.data() + 3 * i;
    for (int r = 0; r < 3; ++r) {
      for (int c = 0; c < 3; ++c) covariance.at[r][c] += p[r] * q[c];
    }
  }
  const Matrix3 rotation = kabsch_rotation(covariance);
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    double* const q = work.coupled.data() + 3 * i;
    const double x = q[0];
    const double y = q[1];
    const double z = q[2];
    for (int r = 0; r < 3; ++r) {
      q[r] = rotation.at[r][0] * x + rotation.at[r][1] * y + rotation.at[r][2] * z;
    }
  }
}

template <typename T>
bool couple(const T* x_0, const T* x_1, T* coupled, std::ptrdiff_t n, CouplingSteps steps,
            Workspace& work) {
  work.coupled.resize(static_cast<std::size_t>(3 * n));
  work.target.resize(static_cast<std::size_t>(3 * n));
  // 0 * value is NaN for infinities and NaN, else a zero: one test for the whole molecule.
  double zero = 0.0;
  for (std::ptrdiff_t e = 0; e < 3 * n; ++e) {
    work.coupled[e] = static_cast<double>(x_0[e]);
    work.target[e] = static_cast<double>(x_1[e]);
    zero += 0.0 * work.coupled[e] + 0.0 * work.target[e];
  }
  if (std::isnan(zero)) return false;
  if (steps.permute_first && !permute(work, n)) return false;
  if (steps.rotate) rotate(work, n);
  if (steps.permute_last && !permute(work, n)) return false;
  for (std::ptrdiff_t e = 0; e < 3 * n; ++e) coupled[e] = static_cast<T>(work.coupled[e]);
  return true;
}

}  // namespace

template <typename T>
void ot_couple_fwd_cpu(const T* x_0, const T* x_1, T* coupled, const std::int64_t* batch_ptr,
                       std::int64_t n_atoms, std::int64_t n_molecules, CouplingSteps steps,
                       int n_threads) {
  check_batch_ptr(batch_ptr, n_molecules, n_atoms);
  for (std::int64_t m = 0; m < n_molecules; ++m) {
    // The cost matrix of one molecule must fit in memory and its atoms in an int.
    constexpr std::int64_t kMaxAtoms = 1 << 15;
    if (batch_ptr[m + 1] - batch_ptr[m] > kMaxAtoms) {
      throw std::invalid_argument("batch_ptr: expected at most " + std::to_string(kMaxAtoms) +
                                  " atoms in a molecule, got " +
                                  std::to_string(batch_ptr[m + 1] - batch_ptr[m]));
    }
  }
  std::atomic<std::int64_t> first_bad{std::numeric_limits<std::int64_t>::max()};
  constexpr std::int64_t kWorkPerAtom = 100;
  [[maybe_unused]] const int threads = threads_for(n_atoms * kWorkPerAtom, n_threads);
#pragma omp parallel num_threads(threads) if (threads > 1)
  {
    Workspace work;
#pragma omp for schedule(dynamic, 64)
    for (std::int64_t m = 0; m < n_molecules; ++m) {
      const std::int64_t start = 3 * batch_ptr[m];
      const std::ptrdiff_t n = batch_ptr[m + 1] - batch_ptr[m];
      if (n == 0) continue;
      if (!couple(x_0 + start, x_1 + start, coupled + start, n, steps, work)) {
        std::int64_t seen = first_bad.load();
        while (m < seen && !first_bad.compare_exchange_weak(seen, m)) {
        }
      }
    }
  }
  if (first_bad.load() < n_molecules) {
    throw std::invalid_argument(
        "x_0, x_1: expected finite coordinates, got NaN, infinity or what is too large to square "
        "in "
        "molecule " +
        std::to_string(first_bad.load()));
  }
}

template void ot_couple_fwd_cpu<float>(const float*, const float*, float*, const std::int64_t*,
                                       std::int64_t, std::int64_t, CouplingSteps, int);
template void ot_couple_fwd_cpu<double>(const double*, const double*, double*, const std::int64_t*,
                                        std::int64_t, std::int64_t, CouplingSteps, int);

}  // namespace tito_fast
