// Normals of one block of four words, by scalars: what one thread of a CUDA kernel does. Operation
// by operation as box_muller.h does it on vectors, none fused, so the bits are those of the C++
// kernels.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "common/host_device.h"
#include "philox_normal/philox.h"
#include "philox_normal/philox_normal.h"
#include "philox_normal/series.h"

namespace tito_fast {

struct FourNormals {
  float value[4];
};

TITO_HOST_DEVICE std::uint64_t bits_of(double value) {
  std::uint64_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

TITO_HOST_DEVICE double double_of(std::uint64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Horner's rule, the highest power's coefficient first.
TITO_HOST_DEVICE double horner(double, double p) { return p; }

template <typename... Rest>
TITO_HOST_DEVICE double horner(double x, double p, double next, Rest... rest) {
  return horner(x, p * x + next, rest...);
}

// -2 ln u for 2^-24 <= u <= 1.
TITO_HOST_DEVICE double minus_two_log(double u) {
  constexpr std::uint64_t kFraction = 0x000FFFFFFFFFFFFFu;
  constexpr std::uint64_t kBias = 64;
  const std::uint64_t bits = bits_of(u) - (kSqrtHalfBits - (kBias << 52));
  const double exponent = double_of((bits >> 52) | 0x4330000000000000u);
  const double e = exponent - (4503599627370496.0 + static_cast<double>(kBias));
  const double f = double_of((bits & kFraction) + kSqrtHalfBits) - 1.0;
  return e * kMinusTwoLn2 + (f * -2.0 + f * f * horner(f, TITO_LOG_SERIES));
}

// The two normals of two words.
TITO_HOST_DEVICE void box_muller(std::uint32_t x, std::uint32_t y, float* normal_0,
                                 float* normal_1) {
  const double u_1 =
      double_of(std::uint64_t{x >> 8} | 0x41B0000000000000u) - (268435456.0 - 1.0 / 16777216.0);
  const double radius = std::sqrt(minus_two_log(u_1));

  const double turns = double_of(std::uint64_t{y >> 8} | 0x41D0000000000000u) - 1073741824.0;
  const double rounded = turns + kRound;
  const double quarter = rounded - kRound;
  const double t = (turns - quarter) * kHalfPi - quarter * kHalfPiTail;
  const double z = t * t;
  const double s = t + t * (z * horner(z, TITO_SINE_SERIES));
  const double c = z * horner(z, TITO_COSINE_SERIES) + 1.0;
  const std::uint64_t quadrant = bits_of(rounded);
  const bool is_odd = (quadrant & 1) != 0;
  const double cosine = double_of(bits_of(is_odd ? s : c) ^ (((quadrant + 1) & 2) << 62));
  const double sine = double_of(bits_of(is_odd ? c : s) ^ ((quadrant & 2) << 62));
  *normal_0 = static_cast<float>(radius * cosine);
  *normal_1 = static_cast<float>(radius * sine);
}

TITO_HOST_DEVICE FourNormals normals_of_words(const PhiloxBlock& words) {
  FourNormals normals;
  box_muller(words.word[0], words.word[1], &normals.value[0], &normals.value[1]);
  box_muller(words.word[2], words.word[3], &normals.value[2], &normals.value[3]);
  return normals;
}

// Values 4 block .. 4 block + 3 of a row.
TITO_HOST_DEVICE FourNormals normals_of_block(std::int64_t key, std::int64_t replica,
                                              PhiloxStep step, std::int64_t block) {
  const PhiloxBlock counter = {{static_cast<std::uint32_t>(block), step.rollout_step,
                                static_cast<std::uint32_t>(replica), step.stream_evaluation}};
  const auto bits = static_cast<std::uint64_t>(key);
  return normals_of_words(philox_4x32_10(counter, static_cast<std::uint32_t>(bits),
                                         static_cast<std::uint32_t>(bits >> 32)));
}

}  // namespace tito_fast
