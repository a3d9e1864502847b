// Products of bfloat16 factors with float32 sums (AVX512-BF16): two inner indices at a time, each
// pair's sum rounded once into the accumulator as the instruction defines it. A row's bits do not
// depend on its neighbors.
#pragma once

#ifdef __AVX512BF16__

#include <cstdint>

#include "common/mlp.h"

namespace tito_fast {
namespace TITO_ISA {

using Half = std::uint16_t;

// Elements of a packed (n_inner, n_columns) matrix; inner indices are padded to pairs.
constexpr std::int64_t packed_size16(int n_inner, int n_columns) {
  return std::int64_t{(n_inner + 1) / 2} * 2 * padded<float>(n_columns);
}

TITO_INLINE Half to_half(float value) {
  return (Half)_mm_extract_epi16((__m128i)_mm_cvtneps_pbh(_mm_set_ss(value)), 0);
}

// Sixteen values, rounded to nearest even.
TITO_INLINE void store_half(Half* to, Vec<float> value) {
  const __m256bh rounded = _mm512_cvtneps_pbh(value);
  __builtin_memcpy(to, &rounded, sizeof(rounded));
}

// In panels as pack(); within a panel, for each pair of inner indices, the two factors of a column
// side by side.
template <typename Value>
void pack16(int n_inner, int n_columns, Half* packed, Value value) {
  const int n_padded = padded<float>(n_columns);
  for (int first = 0; first < n_padded; first += kPanelColumns<float>) {
    const int width =
        n_padded - first < kPanelColumns<float> ? n_padded - first : kPanelColumns<float>;
    for (int k = 0; k < n_inner; k += 2) {
      for (int c = first; c < first + width; ++c) {
        for (int j = k; j < k + 2; ++j) {
          *packed++ = c < n_columns && j < n_inner ? to_half(static_cast<float>(value(j, c))) : 0;
        }
      }
    }
  }
}

template <int R, int V, Start S>
TITO_INLINE void gemm16_tile(int n_pairs, const Half* a, std::int64_t a_row, const Half* panel,
                             const float* bias, float* c, std::int64_t c_row) {
  __m512 acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      if (S == Start::kZero) acc[r][v] = Vec<float>{};
      if (S == Start::kBias) acc[r][v] = load(bias + v * kLanes<float>);
      if (S == Start::kSum) acc[r][v] = load(c + r * c_row + v * kLanes<float>);
    }
  }
  for (int k = 0; k < n_pairs; ++k) {
    __m512bh b[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      __builtin_memcpy(&b[v], panel + v * 2 * kLanes<float>, sizeof(b[v]));
    }
    panel += V * 2 * kLanes<float>;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      int pair;
      __builtin_memcpy(&pair, a + r * a_row + 2 * k, sizeof(pair));
      const __m512bh left = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) acc[r][v] = _mm512_dpbf16_ps(acc[r][v], left, b[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store(c + r * c_row + v * kLanes<float>, Vec<float>(acc[r][v]));
  }
}

template <int V, Start S>
void gemm16_panel(int n_rows, int n_pairs, const Half* a, std::int64_t a_row, const Half* panel,
                  const float* bias, float* c, std::int64_t c_row) {
  int row = 0;
  for (; row + kTileRows <= n_rows; row += kTileRows) {
    gemm16_tile<kTileRows, V, S>(n_pairs, a + row * a_row, a_row, panel, bias, c + row * c_row,
                                 c_row);
  }
  for (; row < n_rows; ++row) {
    gemm16_tile<1, V, S>(n_pairs, a + row * a_row, a_row, panel, bias, c + row * c_row, c_row);
  }
}

// c[r][·] = start + sum_k a[r][k] B[k][·]; rows of a are padded with zeros to pairs.
template <Start S>
void gemm16(int n_rows, int n_inner, int n_columns, const Half* a, std::int64_t a_row,
            const Half* packed, const float* bias, float* c, std::int64_t c_row) {
  const int n_pairs = (n_inner + 1) / 2;
  int left = padded<float>(n_columns);
  for (; left >= kPanelColumns<float>; left -= kPanelColumns<float>) {
    gemm16_panel<kPanelVectors, S>(n_rows, n_pairs, a, a_row, packed, bias, c, c_row);
    packed += std::int64_t{n_pairs} * 2 * kPanelColumns<float>;
    if (S == Start::kBias) bias += kPanelColumns<float>;
    c += kPanelColumns<float>;
  }
  switch (left / kLanes<float>) {
    case 3:
      return gemm16_panel<3, S>(n_rows, n_pairs, a, a_row, packed, bias, c, c_row);
    case 2:
      return gemm16_panel<2, S>(n_rows, n_pairs, a, a_row, packed, bias, c, c_row);
    case 1:
      return gemm16_panel<1, S>(n_rows, n_pairs, a, a_row, packed, bias, c, c_row);
    default:
      return;
  }
}

// 1 / (1 + e^-x) within 1.4e-4, a sixtieth of bfloat16's rounding: a cubic for 2^f (least maximum
// of the relative error, 7.5e-5) and the processor's reciprocal of 14 bits.
TITO_INLINE Vec<float> rough_sigmoid(Vec<float> x) {
  // No limit is needed: where 2^t overflows, the reciprocal is zero.
  const Vec<float> t = x * -1.44269504088896341f;
  const Vec<float> n = round_to_whole(t);
  const Vec<float> f = t - n;
  Vec<float> p = broadcast(0.055171669f);
  p = fma(p, f, broadcast(0.242611122f));
  p = fma(p, f, broadcast(0.693260985f));
  p = fma(p, f, broadcast(0.999928074f));
  return rough_reciprocal(1.0f + times_power_of_two(p, n));
}

// As norm_silu, into bfloat16 rows of the same stride.
template <int V>
TITO_INLINE void norm_silu16_rows(int n_rows, int n, int n_vectors, const float* scale,
                                  const float* shift, const float* a, Half* out) {
  const int n_vec = V > 0 ? V : n_vectors;
  const std::int64_t stride = n_vec * kLanes<float>;
  const float share = static_cast<float>(1.0 / n);
  for (int r = 0; r < n_rows; ++r, a += stride, out += stride) {
    Vec<float> squares{};
#pragma GCC unroll 8
    for (int v = 0; v < n_vec; ++v) {
      const Vec<float> value = load(a + v * kLanes<float>);
      squares = fma(value, value, squares);
    }
    const float factor =
        1.0f / __builtin_sqrtf(sum(squares) * share + static_cast<float>(kNormEps));
#pragma GCC unroll 8
    for (int v = 0; v < n_vec; ++v) {
      const int at = v * kLanes<float>;
      const Vec<float> z = fma(load(a + at) * factor, load(scale + at), load(shift + at));
      store_half(out + at, z * rough_sigmoid(z));
    }
  }
}

inline void norm_silu16(int n_rows, int n, const float* scale, const float* shift, const float* a,
                        Half* out) {
  const int n_vectors = padded<float>(n) / kLanes<float>;
  if (n_vectors == 4) return norm_silu16_rows<4>(n_rows, n, 4, scale, shift, a, out);
  return norm_silu16_rows<0>(n_rows, n, n_vectors, scale, shift, a, out);
}

// Rows of floats, padded, to bfloat16 rows of the same stride.
inline void round_rows(int n_rows, std::int64_t stride, const float* rows, std::int64_t rows_row,
                       Half* out) {
  for (int r = 0; r < n_rows; ++r) {
    for (std::int64_t c = 0; c < stride; c += kLanes<float>) {
      store_half(out + r * stride + c, load(rows + r * rows_row + c));
    }
  }
}

}  // namespace TITO_ISA
}  // namespace tito_fast

#endif  // __AVX512BF16__
