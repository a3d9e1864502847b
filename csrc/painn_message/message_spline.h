// Filters as splines over the distance (tito_fast/models/tito/filter_table.py builds and checks
// them).
#pragma once

#include <cmath>
#include <cstdint>

#include "common/simd.h"

namespace tito_fast {
namespace TITO_ISA {

// Where a distance lies on a spline: six rows of coefficients from `row` on, and the weight of
// each.
template <typename T>
struct Tap {
  T weight[6];
  std::int32_t row;
};

// The tap at `position`, in knots: coefficients row .. row + 5 (see FilterTable) and the basis of
// the quintic B-spline.
template <typename T>
Tap<T> spline_tap(double position, int n_knots) {
  const double whole = ::floor(position);
  const double t = position - whole;
  const double turns = ::floor(whole / n_knots);
  const double knot = whole - turns * n_knots;
  Tap<T> tap;
  // A position that is lost (not a number, or infinite) has weights that are none, from any row.
  tap.row = knot >= 0.0 && knot < n_knots ? static_cast<std::int32_t>(knot) : 0;
  const double t2 = t * t;
  const double t3 = t2 * t;
  const double t4 = t2 * t2;
  const double t5 = t4 * t;
  const double u = 1.0 - t;
  const double u2 = u * u;
  tap.weight[0] = static_cast<T>(u2 * u2 * u / 120.0);
  tap.weight[1] =
      static_cast<T>((26.0 - 50.0 * t + 20.0 * t2 + 20.0 * t3 - 20.0 * t4 + 5.0 * t5) / 120.0);
  tap.weight[2] = static_cast<T>((66.0 - 60.0 * t2 + 30.0 * t4 - 10.0 * t5) / 120.0);
  tap.weight[3] =
      static_cast<T>((26.0 + 50.0 * t + 20.0 * t2 - 20.0 * t3 - 20.0 * t4 + 10.0 * t5) / 120.0);
  tap.weight[4] =
      static_cast<T>((1.0 + 5.0 * t + 10.0 * t2 + 10.0 * t3 + 5.0 * t4 - 5.0 * t5) / 120.0);
  tap.weight[5] = static_cast<T>(t5 / 120.0);
  return tap;
}

// rows (n_rows, n_blocks, padded W) at the taps of n_rows pairs; table is (n_blocks, n_table_rows,
// padded W).
template <typename T>
void spline_rows(const T* table, int n_table_rows, int n_blocks, int width, int n_rows,
                 const Tap<T>* taps, T* rows) {
  const std::int64_t stride = padded<T>(width);
  for (int r = 0; r < n_rows; ++r) {
    Vec<T> weight[6];
    for (int k = 0; k < 6; ++k) weight[k] = broadcast(taps[r].weight[k]);
    for (int slot = 0; slot < n_blocks; ++slot) {
      const T* const from = table + (std::int64_t{slot} * n_table_rows + taps[r].row) * stride;
      T* const to = rows + (std::int64_t{r} * n_blocks + slot) * stride;
      for (int c = 0; c < stride; c += kLanes<T>) {
        Vec<T> total = load(from + c) * weight[0];
        for (int k = 1; k < 6; ++k) total = fma(load(from + k * stride + c), weight[k], total);
        store(to + c, total);
      }
    }
  }
}

}  // namespace TITO_ISA
}  // namespace tito_fast
