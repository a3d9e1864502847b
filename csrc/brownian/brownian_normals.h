// Standard normals in single precision for the steps of Brownian dynamics: Philox-4x32-10 and
// Box-Muller on vectors of 32-bit words. No operation is fused and every one rounds as IEEE 754
// says, so each instruction set, and the same formula in NumPy, gives the same bits.
#pragma once

#include <cstdint>

#include "common/simd.h"
#include "philox_normal/box_muller.h"

namespace tito_fast {
namespace TITO_ISA {

typedef std::uint32_t Words32 __attribute__((vector_size(kVectorBytes)));
typedef std::int32_t Ints32 __attribute__((vector_size(kVectorBytes)));

// ((... c[0] x + c[1]) x + ...), unfused.
template <typename T, int n>
TITO_INLINE Vec<T> horner(Vec<T> x, const T (&coefficients)[n]) {
  Vec<T> p = broadcast(coefficients[0]);
#pragma GCC unroll 16
  for (int i = 1; i < n; ++i) p = p * x + coefficients[i];
  return p;
}

TITO_INLINE Vec<float> float_of(Words32 x) {
  return __builtin_convertvector(reinterpret_cast<Ints32>(x), Vec<float>);
}

// The same words as 32-bit lanes: those of the even lanes lie in the low halves of even, those of
// the odd ones in the low halves of odd.
TITO_INLINE Words32 interleave(Words even, Words odd) {
  return reinterpret_cast<Words32>((even & 0xFFFFFFFFu) | (odd << 32));
}

// -2 ln u for 2^-32 <= u <= 1: u = 2^k (1 + f) with sqrt(1/2) <= 1 + f < sqrt(2), and
// -2 ln(1 + f) = f (-2 + f q(f)), the largest relative error of the polynomial 3e-8.
TITO_INLINE Vec<float> minus_two_log_float(Vec<float> u) {
  constexpr std::uint32_t kSqrtHalf = 0x3F3504F3u;
  constexpr float kQ[] = {-0.17469685f, 0.28615044f, -0.29835936f, 0.33141017f,
                          -0.39924145f, 0.500035f,   -0.666679f,   0.9999998f};
  const Words32 bits = reinterpret_cast<Words32>(u);
  const Ints32 k = reinterpret_cast<Ints32>(bits - kSqrtHalf) >> 23;
  const Vec<float> f =
      reinterpret_cast<Vec<float>>(bits - (reinterpret_cast<Words32>(k) << 23)) - 1.0f;
  const Vec<float> whole = __builtin_convertvector(k, Vec<float>) * -1.3862944f;
  return whole + f * (f * horner(f, kQ) - 2.0f);
}

// cos(2 pi v / 2^32), sin(2 pi v / 2^32). The quarter turns are taken off exactly; the rest t lies
// in [-pi/4, pi/4]: sin t = t + t^3 s(t^2), cos t = 1 + t^2 c(t^2), errors 4e-9 and 4e-8.
TITO_INLINE void cos_sin_float(Words32 v, Vec<float>* cosine, Vec<float>* sine) {
  constexpr float kS[] = {-0.00019515283f, 0.00833216f, -0.16666655f};
  constexpr float kC[] = {-0.0013591854f, 0.041655777f, -0.49999884f};
  const Words32 quadrant = (v + 0x20000000u) >> 30;
  // pi / 2^31
  const Vec<float> t = float_of(v - (quadrant << 30)) * 1.4629181e-09f;
  const Vec<float> z = t * t;
  const auto s = reinterpret_cast<Words32>(t + t * (z * horner(z, kS)));
  const auto c = reinterpret_cast<Words32>(z * horner(z, kC) + 1.0f);
  const Words32 exchange = (s ^ c) & (Words32{} - (quadrant & 1u));
  *cosine = reinterpret_cast<Vec<float>>((c ^ exchange) ^ (((quadrant + 1u) & 2u) << 30));
  *sine = reinterpret_cast<Vec<float>>((s ^ exchange) ^ ((quadrant & 2u) << 30));
}

// u = (v + 1/2) / 2^31 of the top 31 bits v of x, and the angle of y: a pair of normals.
TITO_INLINE void normal_pair(Words32 x, Words32 y, Vec<float>* normal_0, Vec<float>* normal_1) {
  const Vec<float> u = float_of(x >> 1) * 4.656612873077393e-10f + 2.3283064365386963e-10f;
  const Vec<float> radius = square_root(minus_two_log_float(u));
  Vec<float> cosine;
  Vec<float> sine;
  cos_sin_float(y, &cosine, &sine);
  *normal_0 = radius * cosine;
  *normal_1 = radius * sine;
}

// normal[0 .. 3] of steps 4 block .. 4 block + 3 of the trajectories that even and odd number.
TITO_INLINE void step_normals(Words even, Words odd, std::uint64_t block, std::uint32_t dim,
                              const RoundKeys& keys, Vec<float>* normal) {
  const Words low = Words{} + (block & 0xFFFFFFFFu);
  const Words high = Words{} + (block >> 32);
  const Words last = Words{} + std::uint64_t{dim};
  Words a[4] = {low, high, even, last};
  Words b[4] = {low, high, odd, last};
  philox_4x32_10(a, keys);
  philox_4x32_10(b, keys);
  normal_pair(interleave(a[0], b[0]), interleave(a[1], b[1]), &normal[0], &normal[1]);
  normal_pair(interleave(a[2], b[2]), interleave(a[3], b[3]), &normal[2], &normal[3]);
}

}  // namespace TITO_ISA
}  // namespace tito_fast
