// Forces of the potentials (tito_fast/systems/potentials.py), on vectors and unfused.
#pragma once

#include <cstdint>

#include "brownian/brownian_normals.h"
#include "common/simd.h"

namespace tito_fast {
namespace TITO_ISA {

// e^x, relative error below 1e-5 for -69 < x < 69 (that of the rounded product with log2 e, |x|
// ulp) and below 2e-7 near zero; beyond, e^69 and e^-69. Its polynomial's largest relative error is
// 9e-8.
TITO_INLINE Vec<float> exp_of(Vec<float> x) {
  constexpr float kP[] = {0.0013264727f, 0.009671512f, 0.055507336f, 0.24022242f, 0.693147f, 1.0f};
  const Vec<float> t = clamp(x * 1.44269504f, -100.0f, 100.0f);
  const Vec<float> shifted = t + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Vec<float> p = horner(t - (shifted - 12582912.0f), kP);
  return reinterpret_cast<Vec<float>>(reinterpret_cast<Words32>(p) +
                                      (reinterpret_cast<Words32>(shifted) << 23));
}

// e^x to rounding for |x| <= 700; beyond, e^700 and e^-700.
TITO_INLINE Vec<double> exp_of(Vec<double> x) {
  constexpr double kP[] = {1.0 / 6227020800.0,
                           1.0 / 479001600.0,
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
  const Vec<double> held = clamp(x, -700.0, 700.0);
  const Vec<double> shifted = held * 1.4426950408889634 + 6755399441055744.0;  // 1.5 * 2^52
  const Vec<double> n = shifted - 6755399441055744.0;
  // ln 2 in two parts, the first with so few bits that its product with n is exact.
  const Vec<double> r = (held - n * 0.693145751953125) - n * 1.42860682030941723212e-6;
  return reinterpret_cast<Vec<double>>(reinterpret_cast<Words>(horner(r, kP)) +
                                       (reinterpret_cast<Words>(shifted) << 52));
}

// V = 4 (x^8 + 0.8 e^(-80 x^2) + 0.2 e^(-80 (x - 1/2)^2) + 0.5 e^(-40 (x + 1/2)^2))
template <typename T>
struct Prinz {
  static constexpr int kDims = 1;
  explicit Prinz(double /*stiffness*/) {}

  TITO_INLINE void force(const Vec<T>* position, Vec<T>* force) const {
    const Vec<T> x = position[0];
    const Vec<T> left = x + T(0.5);
    const Vec<T> right = x - T(0.5);
    const Vec<T> square = x * x;
    const Vec<T> wall = square * square * square * x;
    const Vec<T> middle_bump = exp_of(square * T(-80)) * x;
    const Vec<T> right_bump = exp_of(right * right * T(-80)) * right;
    const Vec<T> left_bump = exp_of(left * left * T(-40)) * left;
    force[0] = (middle_bump * T(512) - wall * T(32)) + (right_bump * T(128) + left_bump * T(160));
  }
};

// V = sum over k of A e^(a (x - x_k)^2 + b (x - x_k)(y - y_k) + c (y - y_k)^2)
template <typename T>
struct MullerBrown {
  static constexpr int kDims = 2;
  explicit MullerBrown(double /*stiffness*/) {}

  TITO_INLINE void force(const Vec<T>* position, Vec<T>* force) const {
    constexpr T kAmplitude[] = {T(-200), T(-100), T(-170), T(15)};
    constexpr T kXX[] = {T(-1), T(-1), T(-6.5), T(0.7)};
    constexpr T kXY[] = {T(0), T(0), T(11), T(0.6)};
    constexpr T kYY[] = {T(-10), T(-10), T(-6.5), T(0.7)};
    constexpr T kCenterX[] = {T(1), T(0), T(-0.5), T(-1)};
    constexpr T kCenterY[] = {T(0), T(0.5), T(1.5), T(1)};
    force[0] = broadcast(T(0));
    force[1] = broadcast(T(0));
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const Vec<T> dx = position[0] - kCenterX[k];
      const Vec<T> dy = position[1] - kCenterY[k];
      // Half the gradient of the exponent; the exponent is then dx gx + dy gy.
      Vec<T> gx = dx * kXX[k];
      Vec<T> gy = dy * kYY[k];
      if (kXY[k] != T(0)) {
        gx += dy * (kXY[k] / 2);
        gy += dx * (kXY[k] / 2);
      }
      const Vec<T> term = exp_of(dx * gx + dy * gy) * (-2 * kAmplitude[k]);
      force[0] += term * gx;
      force[1] += term * gy;
    }
  }
};

// V = stiffness / 2 x^2
template <typename T>
struct Harmonic {
  static constexpr int kDims = 1;
  explicit Harmonic(double stiffness) : minus_stiffness(static_cast<T>(-stiffness)) {}

  TITO_INLINE void force(const Vec<T>* position, Vec<T>* force) const {
    force[0] = position[0] * minus_stiffness;
  }

  T minus_stiffness;
};

}  // namespace TITO_ISA
}  // namespace tito_fast
