// Rows of features between torch's layout (n values a row) and the kernels' (padded with zeros to
// whole vectors).
#pragma once

#include <cstdint>

#include "common/simd.h"

namespace tito_fast {
namespace TITO_ISA {

// The smallest normal number: what the square of a length is at least, so that the gradient of the
// length of a zero vector is zero.
template <typename T>
constexpr T kTiny = sizeof(T) == 4 ? T(1.17549435082228750797e-38) : T(2.2250738585072014e-308);

// Writes padded rows.
template <typename T>
void pad_rows(std::int64_t n_rows, int n, const T* rows, std::int64_t row_stride, T* to) {
  const int n_padded = padded<T>(n);
  for (std::int64_t r = 0; r < n_rows; ++r, rows += row_stride, to += n_padded) {
    for (int c = 0; c < n; ++c) to[c] = rows[c];
    for (int c = n; c < n_padded; ++c) to[c] = T(0);
  }
}

// Writes dense rows from padded ones.
template <typename T>
void unpad_rows(std::int64_t n_rows, int n, const T* rows, T* to, std::int64_t to_stride) {
  const int n_padded = padded<T>(n);
  for (std::int64_t r = 0; r < n_rows; ++r, rows += n_padded, to += to_stride) {
    for (int c = 0; c < n; ++c) to[c] = rows[c];
  }
}

// Copies n_padded values a row.
template <typename T>
void copy_rows(std::int64_t n_rows, int n_padded, const T* rows, std::int64_t row_stride, T* to,
               std::int64_t to_stride) {
  for (std::int64_t r = 0; r < n_rows; ++r, rows += row_stride, to += to_stride) {
    for (int c = 0; c < n_padded; c += kLanes<T>) store(to + c, load(rows + c));
  }
}

// sum_c a[c] b[c] over n_padded values.
template <typename T>
TITO_INLINE T dot(int n_padded, const T* a, const T* b) {
  Vec<T> total{};
  for (int c = 0; c < n_padded; c += kLanes<T>) total = fma(load(a + c), load(b + c), total);
  return sum(total);
}

}  // namespace TITO_ISA
}  // namespace tito_fast
