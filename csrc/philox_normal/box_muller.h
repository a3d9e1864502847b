// Philox-4x32-10 and Box-Muller on vectors, for files compiled per instruction set (common/isa.h).
// One 64-bit lane works on one block of four words. No operation is fused, so every instruction set
// gives the same bits.
#pragma once

#include <cstdint>

#include "common/simd.h"
#include "philox_normal/series.h"

namespace tito_fast {
namespace TITO_ISA {

typedef std::uint64_t Words __attribute__((vector_size(kVectorBytes)));

constexpr int kBlocks = kLanes<std::uint64_t>;
constexpr int kRounds = 10;

#if defined(__AVX512F__)
// Every lane. GCC 12 warns of an uninitialized operand where it inlines the forms without a mask;
// the instructions are the same.
constexpr __mmask8 kAll = 0xFF;
#endif

// Lane by lane the product of the low halves, 64 bits long; what the high halves hold is ignored.
// As a product of 64-bit vectors it would be three multiplications.
// NOLINTBEGIN(portability-simd-intrinsics)
TITO_INLINE Words multiply_low(Words a, std::uint32_t b) {
#if defined(__AVX512F__)
  return reinterpret_cast<Words>(_mm512_maskz_mul_epu32(
      kAll, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(Words{} + std::uint64_t{b})));
#elif defined(__AVX2__)
  return reinterpret_cast<Words>(_mm256_mul_epu32(
      reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(Words{} + std::uint64_t{b})));
#elif defined(TITO_ISA_X86)
  return reinterpret_cast<Words>(_mm_mul_epu32(
      reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(Words{} + std::uint64_t{b})));
#elif defined(__aarch64__)
  return reinterpret_cast<Words>(
      vmull_u32(vmovn_u64(reinterpret_cast<uint64x2_t>(a)), vdup_n_u32(b)));
#else
  return (a & 0xFFFFFFFFu) * std::uint64_t{b};
#endif
}
// NOLINTEND(portability-simd-intrinsics)

// Keys of the rounds: words 0 and 1 of round r are low[r] and high[r].
struct RoundKeys {
  std::uint64_t low[kRounds];
  std::uint64_t high[kRounds];
};

TITO_INLINE RoundKeys round_keys(std::uint64_t key) {
  RoundKeys keys;
  auto low = static_cast<std::uint32_t>(key);
  auto high = static_cast<std::uint32_t>(key >> 32);
  for (int r = 0; r < kRounds; ++r) {
    keys.low[r] = low;
    keys.high[r] = high;
    low += 0x9E3779B9u;
    high += 0xBB67AE85u;
  }
  return keys;
}

// Encrypts word[0 .. 3] in place (philox.h has the same for one block). Only the low halves count:
// the high halves hold what the multiplications left there.
TITO_INLINE void philox_4x32_10(Words* word, const RoundKeys& keys) {
#pragma GCC unroll 10
  for (int r = 0; r < kRounds; ++r) {
    const Words product_0 = multiply_low(word[0], 0xD2511F53u);
    const Words product_2 = multiply_low(word[2], 0xCD9E8D57u);
    word[0] = (product_2 >> 32) ^ word[1] ^ keys.low[r];
    word[1] = product_2;
    word[2] = (product_0 >> 32) ^ word[3] ^ keys.high[r];
    word[3] = product_0;
  }
}

// p(x) by Horner's rule, the highest power's coefficient first.
template <int n>
TITO_INLINE Vec<double> polynomial(Vec<double> x, const double (&coefficients)[n]) {
  Vec<double> p = broadcast(coefficients[0]);
#pragma GCC unroll 16
  for (int i = 1; i < n; ++i) p = p * x + coefficients[i];
  return p;
}

// -2 ln u for 2^-24 <= u <= 1, relative error below 1.4e-9: u = 2^e (1 + f) with
// sqrt(1/2) <= 1 + f < sqrt(2) and ln(1 + f) = f + f^2 q(f).
TITO_INLINE Vec<double> minus_two_log(Vec<double> u) {
  constexpr std::uint64_t kFraction = 0x000FFFFFFFFFFFFFu;
  constexpr std::uint64_t kBias = 64;
  constexpr double kQ[] = {TITO_LOG_SERIES};
  const Words bits = reinterpret_cast<Words>(u) - (kSqrtHalfBits - (kBias << 52));
  // 2^52 with e + kBias in the last places, as a double.
  const auto exponent = reinterpret_cast<Vec<double>>((bits >> 52) | 0x4330000000000000u);
  const Vec<double> e = exponent - (4503599627370496.0 + static_cast<double>(kBias));
  const Vec<double> f = reinterpret_cast<Vec<double>>((bits & kFraction) + kSqrtHalfBits) - 1.0;
  return e * kMinusTwoLn2 + (f * -2.0 + f * f * polynomial(f, kQ));
}

// cos(2 pi v / 2^24), sin(2 pi v / 2^24) for whole v below 2^24, relative error below 3e-10 each.
// The quarter turns are taken off exactly. The rest t lies in [-pi/4, pi/4]:
// sin t = t + t^3 s(t^2), cos t = 1 + t^2 c(t^2).
TITO_INLINE void cos_sin(Words v, Vec<double>* cosine, Vec<double>* sine) {
  constexpr double kS[] = {TITO_SINE_SERIES};
  constexpr double kC[] = {TITO_COSINE_SERIES};
  // 2^30 with v in the last places is 2^30 + v / 2^22.
  const auto shifted = reinterpret_cast<Vec<double>>(v | 0x41D0000000000000u);
  const Vec<double> turns = shifted - 1073741824.0;
  const Vec<double> rounded = turns + kRound;
  const Vec<double> quarter = rounded - kRound;
  const Vec<double> t = (turns - quarter) * kHalfPi - quarter * kHalfPiTail;
  const Vec<double> z = t * t;
  const auto s = reinterpret_cast<Words>(t + t * (z * polynomial(z, kS)));
  const auto c = reinterpret_cast<Words>(z * polynomial(z, kC) + 1.0);
  const Words quadrant = reinterpret_cast<Words>(rounded);
  const Words odd = Words{} - (quadrant & 1);
  const Words exchange = (s ^ c) & odd;
  *cosine = reinterpret_cast<Vec<double>>((c ^ exchange) ^ (((quadrant + 1) & 2) << 62));
  *sine = reinterpret_cast<Vec<double>>((s ^ exchange) ^ ((quadrant & 2) << 62));
}

// u_1 = ((x >> 8) + 1) / 2^24, u_2 = (y >> 8) / 2^24 of two words x, y:
// sqrt(-2 ln u_1) cos(2 pi u_2) and sqrt(-2 ln u_1) sin(2 pi u_2).
TITO_INLINE void box_muller(Words x, Words y, Vec<double>* normal_0, Vec<double>* normal_1) {
  constexpr std::uint64_t kTopBits = 0xFFFFFFu;
  // 2^28 with 24 bits in the last places is 2^28 + bits / 2^24.
  const auto shifted = reinterpret_cast<Vec<double>>(((x >> 8) & kTopBits) | 0x41B0000000000000u);
  const Vec<double> u_1 = shifted - (268435456.0 - 1.0 / 16777216.0);
  const Vec<double> radius = square_root(minus_two_log(u_1));
  Vec<double> cosine;
  Vec<double> sine;
  cos_sin((y >> 8) & kTopBits, &cosine, &sine);
  *normal_0 = radius * cosine;
  *normal_1 = radius * sine;
}

// Rounds to float and writes normals[4 b + i] = n_i[b].
TITO_INLINE void store_blocks(float* normals, Vec<double> n_0, Vec<double> n_1, Vec<double> n_2,
                              Vec<double> n_3) {
#if defined(__AVX512F__)
  const __m256 a = _mm512_maskz_cvtpd_ps(kAll, n_0), b = _mm512_maskz_cvtpd_ps(kAll, n_1);
  const __m256 c = _mm512_maskz_cvtpd_ps(kAll, n_2), d = _mm512_maskz_cvtpd_ps(kAll, n_3);
  const auto ab =
      __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
  const auto cd =
      __builtin_shufflevector(c, d, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
  const auto pairs_ab = reinterpret_cast<Words>(ab);
  const auto pairs_cd = reinterpret_cast<Words>(cd);
  store(normals, reinterpret_cast<Vec<float>>(
                     __builtin_shufflevector(pairs_ab, pairs_cd, 0, 8, 1, 9, 2, 10, 3, 11)));
  store(normals + 16, reinterpret_cast<Vec<float>>(
                          __builtin_shufflevector(pairs_ab, pairs_cd, 4, 12, 5, 13, 6, 14, 7, 15)));
#elif defined(__AVX2__)
  const __m128 a = _mm256_cvtpd_ps(n_0), b = _mm256_cvtpd_ps(n_1);
  const __m128 c = _mm256_cvtpd_ps(n_2), d = _mm256_cvtpd_ps(n_3);
  const auto ab = reinterpret_cast<Words>(__builtin_shufflevector(a, b, 0, 4, 1, 5, 2, 6, 3, 7));
  const auto cd = reinterpret_cast<Words>(__builtin_shufflevector(c, d, 0, 4, 1, 5, 2, 6, 3, 7));
  store(normals, reinterpret_cast<Vec<float>>(__builtin_shufflevector(ab, cd, 0, 4, 1, 5)));
  store(normals + 8, reinterpret_cast<Vec<float>>(__builtin_shufflevector(ab, cd, 2, 6, 3, 7)));
#elif defined(TITO_ISA_X86)
  const __m128 ab = _mm_unpacklo_ps(_mm_cvtpd_ps(n_0), _mm_cvtpd_ps(n_1));
  const __m128 cd = _mm_unpacklo_ps(_mm_cvtpd_ps(n_2), _mm_cvtpd_ps(n_3));
  store(normals, static_cast<Vec<float>>(_mm_movelh_ps(ab, cd)));
  store(normals + 4, static_cast<Vec<float>>(_mm_movehl_ps(cd, ab)));
#else
  for (std::int64_t b = 0; b < kBlocks; ++b) {
    normals[4 * b] = static_cast<float>(n_0[b]);
    normals[4 * b + 1] = static_cast<float>(n_1[b]);
    normals[4 * b + 2] = static_cast<float>(n_2[b]);
    normals[4 * b + 3] = static_cast<float>(n_3[b]);
  }
#endif
}

// normals[0 .. 4 kBlocks) of the blocks that word[0 .. 3] hold.
TITO_INLINE void normals_of_words(const Words* word, float* normals) {
  Vec<double> n_0, n_1, n_2, n_3;
  box_muller(word[0], word[1], &n_0, &n_1);
  box_muller(word[2], word[3], &n_2, &n_3);
  store_blocks(normals, n_0, n_1, n_2, n_3);
}

}  // namespace TITO_ISA
}  // namespace tito_fast
