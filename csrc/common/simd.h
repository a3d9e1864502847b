// Vectors of the instruction set that this file is being compiled for (see isa.h), with the few
// functions that the network needs. Plain a * b + c is never contracted (-ffp-contract=off); fma()
// is fused where the set has it.
#pragma once

#ifdef TITO_ISA_X86
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <cstdint>

#ifndef TITO_ISA
#error "simd.h belongs in files that are compiled per instruction set"
#endif

#define TITO_INLINE inline __attribute__((always_inline))

namespace tito_fast {
namespace TITO_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kPanelVectors = 4;  // 32 registers: tiles of 6 rows x 4 vectors
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
constexpr int kPanelVectors = 2;  // 16 registers: tiles of 6 rows x 2 vectors
#elif defined(__aarch64__)
constexpr int kVectorBytes = 16;
constexpr int kPanelVectors = 4;
#else
constexpr int kVectorBytes = 16;
constexpr int kPanelVectors = 2;
#endif

#if defined(__AVX512F__)
// For masked forms of instructions: the plain ones make gcc 12 warn of a value that it never reads.
constexpr __mmask16 kEveryLane = static_cast<__mmask16>(-1);
#endif

template <typename T>
struct VectorOf {
  typedef T Type __attribute__((vector_size(kVectorBytes)));
  typedef T Unaligned __attribute__((vector_size(kVectorBytes), aligned(sizeof(T)), may_alias));
};

template <typename T>
using Vec = typename VectorOf<T>::Type;

template <typename T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

// The least multiple of the vector's length that holds n.
template <typename T>
constexpr int padded(int n) {
  return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

template <typename T>
TITO_INLINE Vec<T> load(const T* address) {
  return *reinterpret_cast<const typename VectorOf<T>::Unaligned*>(address);
}

template <typename T>
TITO_INLINE void store(T* address, Vec<T> value) {
  *reinterpret_cast<typename VectorOf<T>::Unaligned*>(address) = value;
}

template <typename T>
TITO_INLINE Vec<T> broadcast(T value) {
  return Vec<T>{} + value;
}

TITO_INLINE Vec<float> fma(Vec<float> a, Vec<float> b, Vec<float> c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#elif defined(__aarch64__)
  return vfmaq_f32(c, a, b);
#else
  return a * b + c;
#endif
}

TITO_INLINE Vec<double> fma(Vec<double> a, Vec<double> b, Vec<double> c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_pd(a, b, c);
#elif defined(__AVX2__)
  return _mm256_fmadd_pd(a, b, c);
#elif defined(__aarch64__)
  return vfmaq_f64(c, a, b);
#else
  return a * b + c;
#endif
}

// Sum over the lanes in a fixed order: halves onto each other.
TITO_INLINE float sum(Vec<float> v) {
#if defined(__AVX512F__)
  const auto half = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                    __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  const auto quarter = __builtin_shufflevector(half, half, 0, 1, 2, 3) +
                       __builtin_shufflevector(half, half, 4, 5, 6, 7);
#elif defined(__AVX2__)
  const auto quarter =
      __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
  const auto quarter = v;
#endif
  const auto swapped = quarter + __builtin_shufflevector(quarter, quarter, 2, 3, 0, 1);
  return swapped[0] + swapped[1];
}

TITO_INLINE double sum(Vec<double> v) {
#if defined(__AVX512F__)
  const auto half =
      __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
  const auto quarter =
      __builtin_shufflevector(half, half, 0, 1) + __builtin_shufflevector(half, half, 2, 3);
#elif defined(__AVX2__)
  const auto quarter = __builtin_shufflevector(v, v, 0, 1) + __builtin_shufflevector(v, v, 2, 3);
#else
  const auto quarter = v;
#endif
  return quarter[0] + quarter[1];
}

TITO_INLINE Vec<float> clamp(Vec<float> x, float low, float high) {
  x = x < low ? broadcast(low) : x;
  return x > high ? broadcast(high) : x;
}

TITO_INLINE Vec<double> clamp(Vec<double> x, double low, double high) {
  x = x < low ? broadcast(low) : x;
  return x > high ? broadcast(high) : x;
}

TITO_INLINE Vec<float> at_least(Vec<float> x, float low) { return x < low ? broadcast(low) : x; }

TITO_INLINE Vec<double> at_least(Vec<double> x, double low) { return x < low ? broadcast(low) : x; }

// x where size is above limit, else zero.
TITO_INLINE Vec<float> zero_unless_above(Vec<float> x, Vec<float> size, float limit) {
  return size > limit ? x : broadcast(0.0f);
}

TITO_INLINE Vec<double> zero_unless_above(Vec<double> x, Vec<double> size, double limit) {
  return size > limit ? x : broadcast(0.0);
}

// Correctly rounded.
TITO_INLINE Vec<float> square_root(Vec<float> x) {
#if defined(__AVX512F__)
  return _mm512_maskz_sqrt_ps(kEveryLane, x);
#elif defined(__AVX2__)
  return _mm256_sqrt_ps(x);
#elif defined(TITO_ISA_X86)
  return _mm_sqrt_ps(x);
#elif defined(__aarch64__)
  return vsqrtq_f32(x);
#else
  for (int i = 0; i < kLanes<float>; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

TITO_INLINE Vec<double> square_root(Vec<double> x) {
#if defined(__AVX512F__)
  return _mm512_maskz_sqrt_pd(static_cast<__mmask8>(-1), x);
#elif defined(__AVX2__)
  return _mm256_sqrt_pd(x);
#elif defined(TITO_ISA_X86)
  return _mm_sqrt_pd(x);
#elif defined(__aarch64__)
  return vsqrtq_f64(x);
#else
  for (int i = 0; i < kLanes<double>; ++i) x[i] = __builtin_sqrt(x[i]);
  return x;
#endif
}

// 1 / x for x in the normal range.
TITO_INLINE Vec<float> reciprocal(Vec<float> x) {
#if defined(__AVX512F__)
  // 14 bits, then one step of Newton: within 1 ulp.
  // Not the plain intrinsic, whose undefined lanes gcc 12 warns of.
  const Vec<float> guess = _mm512_maskz_rcp14_ps(kEveryLane, x);
  return fma(fma(-x, guess, broadcast(1.0f)), guess, guess);
#else
  return 1.0f / x;
#endif
}

TITO_INLINE Vec<double> reciprocal(Vec<double> x) { return 1.0 / x; }

#if defined(__AVX512F__)
// The smaller one; a NaN in x stays one.
TITO_INLINE Vec<float> at_most(float limit, Vec<float> x) {
  return _mm512_maskz_min_ps(kEveryLane, broadcast(limit), x);
}

TITO_INLINE Vec<float> round_to_whole(Vec<float> x) {
  return _mm512_maskz_roundscale_ps(kEveryLane, x, 0);
}

// x 2^n for whole n
TITO_INLINE Vec<float> times_power_of_two(Vec<float> x, Vec<float> n) {
  return _mm512_maskz_scalef_ps(kEveryLane, x, n);
}

// 1 / x to 14 bits
TITO_INLINE Vec<float> rough_reciprocal(Vec<float> x) {
  return _mm512_maskz_rcp14_ps(kEveryLane, x);
}
#endif

// 2^t for t in [-126, 127]: the whole part goes to the exponent, the rest through a polynomial
// whose largest relative error is 2.4e-9 (least maximum, fitted on [-1/2, 1/2]; its constant made
// 1).
TITO_INLINE Vec<float> exp2(Vec<float> t) {
#if defined(__AVX512F__)
  const Vec<float> n = round_to_whole(t);
#else
  const Vec<float> shift = broadcast(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const Vec<float> shifted = t + shift;
  const Vec<float> n = shifted - shift;
#endif
  const Vec<float> f = t - n;
  Vec<float> p = broadcast(0.00015345811984372737f);
  p = fma(p, f, broadcast(0.001339993121925398f));
  p = fma(p, f, broadcast(0.00961848895717786f));
  p = fma(p, f, broadcast(0.055503287769649065f));
  p = fma(p, f, broadcast(0.24022646890633492f));
  p = fma(p, f, broadcast(0.6931472057372675f));
  p = fma(p, f, broadcast(1.0f));
#if defined(__AVX512F__)
  return times_power_of_two(p, n);
#else
  typedef std::int32_t Int __attribute__((vector_size(kVectorBytes)));
  return reinterpret_cast<Vec<float>>(reinterpret_cast<Int>(p) +
                                      (reinterpret_cast<Int>(shifted) << 23));
#endif
}

// e^x for x in [-708, 709].
TITO_INLINE Vec<double> exp(Vec<double> x) {
  typedef std::int64_t Int __attribute__((vector_size(kVectorBytes)));
  const Vec<double> shift = broadcast(6755399441055744.0);  // 1.5 * 2^52
  const Vec<double> shifted = fma(x, broadcast(1.4426950408889634074), shift);
  const Vec<double> n = shifted - shift;
  Vec<double> r = fma(n, broadcast(-0.693145751953125), x);
  r = fma(n, broadcast(-1.42860682030941723212e-6), r);
  Vec<double> p = broadcast(1.0 / 6227020800.0);
  constexpr double kInverseFactorial[] = {1.0 / 479001600.0,
                                          1.0 / 39916800.0,
                                          1.0 / 3628800.0,
                                          1.0 / 362880.0,
                                          1.0 / 40320.0,
                                          1.0 / 5040.0,
                                          1.0 / 720.0,
                                          1.0 / 120.0,
                                          1.0 / 24.0,
                                          1.0 / 6.0,
                                          0.5,
                                          1.0,
                                          1.0};
  for (const double coefficient : kInverseFactorial) p = fma(p, r, broadcast(coefficient));
  return reinterpret_cast<Vec<double>>(reinterpret_cast<Int>(p) +
                                       (reinterpret_cast<Int>(shifted) << 52));
}

// 1 / (1 + e^-x)
TITO_INLINE Vec<float> sigmoid(Vec<float> x) {
  const Vec<float> t = x * -1.44269504088896341f;
#if defined(__AVX512F__)
  // In this order a NaN stays one. Below -126 the result is 1 all the same.
  return reciprocal(1.0f + exp2(at_most(126.0f, t)));
#else
  return reciprocal(1.0f + exp2(clamp(t, -126.0f, 126.0f)));
#endif
}

TITO_INLINE Vec<double> sigmoid(Vec<double> x) {
  return reciprocal(1.0 + exp(clamp(-x, -700.0, 700.0)));
}

}  // namespace TITO_ISA
}  // namespace tito_fast
