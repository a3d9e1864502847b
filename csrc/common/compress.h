// Comparisons to bit masks, and the lanes of a mask packed to the front of memory. One bit per
// lane, lane 0 lowest. Only for files that are compiled per instruction set.
#pragma once

#include <cstdint>

#include "common/simd.h"

namespace tito_fast {
namespace TITO_ISA {

TITO_INLINE unsigned less_mask(Vec<float> a, Vec<float> b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
#elif defined(__AVX2__)
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ)));
#elif defined(TITO_ISA_X86)
  return static_cast<unsigned>(_mm_movemask_ps(_mm_cmplt_ps(a, b)));
#else
  unsigned mask = 0;
  for (int k = 0; k < kLanes<float>; ++k) mask |= static_cast<unsigned>(a[k] < b[k]) << k;
  return mask;
#endif
}

TITO_INLINE unsigned less_mask(Vec<double> a, Vec<double> b) {
#if defined(__AVX512F__)
  return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ);
#elif defined(__AVX2__)
  return static_cast<unsigned>(_mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_LT_OQ)));
#elif defined(TITO_ISA_X86)
  return static_cast<unsigned>(_mm_movemask_pd(_mm_cmplt_pd(a, b)));
#else
  unsigned mask = 0;
  for (int k = 0; k < kLanes<double>; ++k) mask |= static_cast<unsigned>(a[k] < b[k]) << k;
  return mask;
#endif
}

#if defined(__AVX2__) && !defined(__AVX512F__)
// Entry m: the numbers of the set bits of m, one byte each from the lowest.
struct PackTable {
  std::uint64_t lanes[256];
};

constexpr PackTable pack_table() {
  PackTable table{};
  for (unsigned mask = 0; mask < 256; ++mask) {
    int n = 0;
    for (std::uint64_t lane = 0; lane < 8; ++lane) {
      if ((mask >> lane & 1U) != 0) table.lanes[mask] |= lane << (8 * n++);
    }
  }
  return table;
}

constexpr PackTable kPackTable = pack_table();

// Bit k of a mask over four doubles as the bits 2k and 2k + 1 over eight floats.
constexpr std::uint8_t kDoubledBits[16] = {0x00, 0x03, 0x0c, 0x0f, 0x30, 0x33, 0x3c, 0x3f,
                                           0xc0, 0xc3, 0xcc, 0xcf, 0xf0, 0xf3, 0xfc, 0xff};

TITO_INLINE __m256 pack_lanes(unsigned mask, __m256 value) {
  const __m128i bytes = _mm_cvtsi64_si128(static_cast<long long>(kPackTable.lanes[mask]));
  return _mm256_permutevar8x32_ps(value, _mm256_cvtepu8_epi32(bytes));
}
#endif

// Writes the lanes of `mask` to out[0 ..]. May write a whole vector: what lies behind is undefined.
TITO_INLINE void compress_store(float* out, unsigned mask, Vec<float> value) {
#if defined(__AVX512F__)
  // To a register first: compressing to memory is slow on some processors.
  _mm512_storeu_ps(out, _mm512_maskz_compress_ps(static_cast<__mmask16>(mask), value));
#elif defined(__AVX2__)
  _mm256_storeu_ps(out, pack_lanes(mask, value));
#else
  int n = 0;
  for (int k = 0; k < kLanes<float>; ++k) {
    out[n] = value[k];
    n += static_cast<int>(mask >> k & 1U);
  }
#endif
}

TITO_INLINE void compress_store(double* out, unsigned mask, Vec<double> value) {
#if defined(__AVX512F__)
  _mm512_storeu_pd(out, _mm512_maskz_compress_pd(static_cast<__mmask8>(mask), value));
#elif defined(__AVX2__)
  const __m256 packed = pack_lanes(kDoubledBits[mask], _mm256_castpd_ps(value));
  _mm256_storeu_pd(out, _mm256_castps_pd(packed));
#else
  int n = 0;
  for (int k = 0; k < kLanes<double>; ++k) {
    out[n] = value[k];
    n += static_cast<int>(mask >> k & 1U);
  }
#endif
}

TITO_INLINE void compress_store(std::int32_t* out, unsigned mask, Vec<std::int32_t> value) {
#if defined(__AVX512F__)
  const __m512i packed = _mm512_maskz_compress_epi32(static_cast<__mmask16>(mask), (__m512i)value);
  store(out, (Vec<std::int32_t>)packed);
#elif defined(__AVX2__)
  store(out, (Vec<std::int32_t>)pack_lanes(mask, (__m256)value));
#else
  int n = 0;
  for (int k = 0; k < kLanes<float>; ++k) {
    out[n] = value[k];
    n += static_cast<int>(mask >> k & 1U);
  }
#endif
}

TITO_INLINE void compress_store(std::int64_t* out, unsigned mask, Vec<std::int64_t> value) {
#if defined(__AVX512F__)
  const __m512i packed = _mm512_maskz_compress_epi64(static_cast<__mmask8>(mask), (__m512i)value);
  store(out, (Vec<std::int64_t>)packed);
#elif defined(__AVX2__)
  store(out, (Vec<std::int64_t>)pack_lanes(kDoubledBits[mask], (__m256)value));
#else
  int n = 0;
  for (int k = 0; k < kLanes<double>; ++k) {
    out[n] = value[k];
    n += static_cast<int>(mask >> k & 1U);
  }
#endif
}

}  // namespace TITO_ISA
}  // namespace tito_fast
