// Numbers of the Box-Muller transform that the vectors (box_muller.h) and the scalars
// (normals_block.h) share. Series are macros, highest power first: an array in files that are
// compiled per instruction set, arguments in device code, where an array at namespace scope cannot
// be read.
//
// The polynomials interpolate at Chebyshev nodes. A relative error of 6e-8 is a float's last place.
#pragma once

#include <cstdint>

// q of ln(1 + f) = f + f^2 q(f), sqrt(1/2) <= 1 + f < sqrt(2).
#define TITO_LOG_SERIES                                                                  \
  -0.13538048227632002, 0.23114575764031642, -0.236242722846593, 0.2484162893581781,     \
      -0.2846463571910444, 0.33335073544857263, -0.4000289344440046, 0.5000002188020135, \
      -0.666666455872142, 0.9999999988699274

// s of sin t = t + t^3 s(t^2) and c of cos t = 1 + t^2 c(t^2), |t| <= pi / 4.
#define TITO_SINE_SERIES \
  2.724992580305979e-06, -0.00019840086735384846, 0.008333331874710208, -0.1666666666385529
#define TITO_COSINE_SERIES \
  2.4463788293265746e-05, -0.0013887589155600576, 0.04166665064451703, -0.49999999969119313

namespace tito_fast {

constexpr double kMinusTwoLn2 = -1.3862943611198906;
constexpr std::uint64_t kSqrtHalfBits = 0x3FE6A09E667F3BCDu;

constexpr double kHalfPi = 1.5707963267948966;
// pi / 2 - kHalfPi: the reference multiplies by a rounded 2 pi, which shows in the quarter turns
// themselves, where it gives multiples of this and not zero.
constexpr double kHalfPiTail = 6.123233995736766e-17;

constexpr double kRound = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer

}  // namespace tito_fast
