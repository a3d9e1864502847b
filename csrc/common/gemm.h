// Small matrix products on rows that stay in cache. The right-hand side is packed once into panels,
// so that the inner loop reads it in order. Every element of the result is summed over k in rising
// order by fma, whatever rows are computed with it: a row's bits do not depend on its neighbours.
#pragma once

#include <cstdint>

#include "common/simd.h"

namespace tito_fast {
namespace TITO_ISA {

constexpr int kTileRows = 6;

template <typename T>
constexpr int kPanelColumns = kPanelVectors * kLanes<T>;

// What a product is added to.
enum class Start {
  kZero,
  kBias,  // a row of n values
  kSum,   // what is already in the result
};

// Elements of a packed (n_inner, n_columns) matrix: columns are padded with zeros to whole vectors.
template <typename T>
constexpr std::int64_t packed_size(int n_inner, int n_columns) {
  return std::int64_t{n_inner} * padded<T>(n_columns);
}

// Packs B with B[k][c] = value(k, c).
template <typename T, typename Value>
void pack(int n_inner, int n_columns, T* packed, Value value) {
  const int n_padded = padded<T>(n_columns);
  for (int first = 0; first < n_padded; first += kPanelColumns<T>) {
    const int width = n_padded - first < kPanelColumns<T> ? n_padded - first : kPanelColumns<T>;
    for (int k = 0; k < n_inner; ++k) {
      for (int c = first; c < first + width; ++c) {
        *packed++ = c < n_columns ? static_cast<T>(value(k, c)) : T(0);
      }
    }
  }
}

// One tile: R rows, V vectors of columns. a is read one scalar at a time.
template <typename T, int R, int V, Start S>
TITO_INLINE void gemm_tile(int n_inner, const T* a, std::int64_t a_row, std::int64_t a_inner,
                           const T* panel, const T* bias, T* c, std::int64_t c_row) {
  Vec<T> acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      if (S == Start::kZero) acc[r][v] = Vec<T>{};
      if (S == Start::kBias) acc[r][v] = load(bias + v * kLanes<T>);
      if (S == Start::kSum) acc[r][v] = load(c + r * c_row + v * kLanes<T>);
    }
  }
  for (int k = 0; k < n_inner; ++k) {
    Vec<T> b[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) b[v] = load(panel + v * kLanes<T>);
    panel += V * kLanes<T>;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec<T> left = broadcast(a[r * a_row + k * a_inner]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] = fma(left, b[v], acc[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store(c + r * c_row + v * kLanes<T>, acc[r][v]);
  }
}

template <typename T, int V, Start S>
void gemm_panel(int n_rows, int n_inner, const T* a, std::int64_t a_row, std::int64_t a_inner,
                const T* panel, const T* bias, T* c, std::int64_t c_row) {
  int row = 0;
  for (; row + kTileRows <= n_rows; row += kTileRows) {
    gemm_tile<T, kTileRows, V, S>(n_inner, a + row * a_row, a_row, a_inner, panel, bias,
                                  c + row * c_row, c_row);
  }
  a += row * a_row;
  c += row * c_row;
  switch (n_rows - row) {
    case 5:
      return gemm_tile<T, 5, V, S>(n_inner, a, a_row, a_inner, panel, bias, c, c_row);
    case 4:
      return gemm_tile<T, 4, V, S>(n_inner, a, a_row, a_inner, panel, bias, c, c_row);
    case 3:
      return gemm_tile<T, 3, V, S>(n_inner, a, a_row, a_inner, panel, bias, c, c_row);
    case 2:
      return gemm_tile<T, 2, V, S>(n_inner, a, a_row, a_inner, panel, bias, c, c_row);
    case 1:
      return gemm_tile<T, 1, V, S>(n_inner, a, a_row, a_inner, panel, bias, c, c_row);
    default:
      return;
  }
}

// c[r][·] = start + sum_k a[r * a_row + k * a_inner] B[k][·], all padded columns written.
template <Start S, typename T>
void gemm(int n_rows, int n_inner, int n_columns, const T* a, std::int64_t a_row,
          std::int64_t a_inner, const T* packed, const T* bias, T* c, std::int64_t c_row) {
  int left = padded<T>(n_columns);
  for (; left >= kPanelColumns<T>; left -= kPanelColumns<T>) {
    gemm_panel<T, kPanelVectors, S>(n_rows, n_inner, a, a_row, a_inner, packed, bias, c, c_row);
    packed += std::int64_t{n_inner} * kPanelColumns<T>;
    if (S == Start::kBias) bias += kPanelColumns<T>;
    c += kPanelColumns<T>;
  }
  switch (left / kLanes<T>) {
    case 3:
      return gemm_panel<T, 3, S>(n_rows, n_inner, a, a_row, a_inner, packed, bias, c, c_row);
    case 2:
      return gemm_panel<T, 2, S>(n_rows, n_inner, a, a_row, a_inner, packed, bias, c, c_row);
    case 1:
      return gemm_panel<T, 1, S>(n_rows, n_inner, a, a_row, a_inner, packed, bias, c, c_row);
    default:
      return;
  }
}

// One tile of rows of a transposed product: R inner indices of a, V vectors of columns of d, summed
// over the rows before it is added to c: sums of sums lose less than one long sum.
template <typename T, int R, int V>
TITO_INLINE void gemm_tn_tile(int n_rows, const T* a, std::int64_t a_row, const T* d,
                              std::int64_t d_row, T* c, std::int64_t c_row) {
  Vec<T> acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) acc[r][v] = Vec<T>{};
  }
  for (int m = 0; m < n_rows; ++m) {
    Vec<T> b[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) b[v] = load(d + m * d_row + v * kLanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec<T> left = broadcast(a[m * a_row + r]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] = fma(left, b[v], acc[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      T* const to = c + r * c_row + v * kLanes<T>;
      store(to, load(to) + acc[r][v]);
    }
  }
}

template <typename T, int V>
void gemm_tn_panel(int n_rows, int n_inner, const T* a, std::int64_t a_row, const T* d,
                   std::int64_t d_row, T* c, std::int64_t c_row) {
  int k = 0;
  for (; k + kTileRows <= n_inner; k += kTileRows) {
    gemm_tn_tile<T, kTileRows, V>(n_rows, a + k, a_row, d, d_row, c + k * c_row, c_row);
  }
  a += k;
  c += k * c_row;
  switch (n_inner - k) {
    case 5:
      return gemm_tn_tile<T, 5, V>(n_rows, a, a_row, d, d_row, c, c_row);
    case 4:
      return gemm_tn_tile<T, 4, V>(n_rows, a, a_row, d, d_row, c, c_row);
    case 3:
      return gemm_tn_tile<T, 3, V>(n_rows, a, a_row, d, d_row, c, c_row);
    case 2:
      return gemm_tn_tile<T, 2, V>(n_rows, a, a_row, d, d_row, c, c_row);
    case 1:
      return gemm_tn_tile<T, 1, V>(n_rows, a, a_row, d, d_row, c, c_row);
    default:
      return;
  }
}

// c[k][·] += sum_r a[r][k] d[r][·] for k < n_inner: the gradient of a weight. Rows of d are padded.
template <typename T>
void gemm_tn(int n_rows, int n_inner, int n_columns, const T* a, std::int64_t a_row, const T* d,
             std::int64_t d_row, T* c, std::int64_t c_row) {
  int left = padded<T>(n_columns);
  for (; left >= kPanelColumns<T>; left -= kPanelColumns<T>) {
    gemm_tn_panel<T, kPanelVectors>(n_rows, n_inner, a, a_row, d, d_row, c, c_row);
    d += kPanelColumns<T>;
    c += kPanelColumns<T>;
  }
  switch (left / kLanes<T>) {
    case 3:
      return gemm_tn_panel<T, 3>(n_rows, n_inner, a, a_row, d, d_row, c, c_row);
    case 2:
      return gemm_tn_panel<T, 2>(n_rows, n_inner, a, a_row, d, d_row, c, c_row);
    case 1:
      return gemm_tn_panel<T, 1>(n_rows, n_inner, a, a_row, d, d_row, c, c_row);
    default:
      return;
  }
}

}  // namespace TITO_ISA
}  // namespace tito_fast
