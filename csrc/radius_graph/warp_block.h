// Sums of one number per lane of a warp.
#pragma once

#include "common/host_device.h"
#include "common/launch.h"

// Before a loop: how many turns at once are compiled. Few keep registers free.
#ifdef __CUDA_ARCH__
#define TITO_PRAGMA(text) _Pragma(#text)
#define TITO_UNROLL(n_turns) TITO_PRAGMA(unroll n_turns)
#else
#define TITO_UNROLL(n_turns)
#endif

namespace tito_fast {

template <typename Block>
TITO_HOST_DEVICE int warp_sum(const Block& block, int value) {
  for (int mask = kLanesOfWarp / 2; mask > 0; mask /= 2) value += block.shuffle_xor(value, mask);
  return value;
}

// Sum over the lanes below, and over all of them in `total`.
template <typename Block>
TITO_HOST_DEVICE int warp_prefix(const Block& block, int value, int& total) {
  const unsigned below = (1U << block.lane()) - 1U;
  const unsigned is_any = block.ballot(value > 0);
  total = n_set_bits(is_any);
  if (is_any == 0 || block.ballot(value > 1) == 0) return n_set_bits(is_any & below);
  int sum = value;
  for (int delta = 1; delta < kLanesOfWarp; delta *= 2) {
    const int lower = block.shuffle_up(sum, delta);
    if (block.lane() >= delta) sum += lower;
  }
  total = block.shuffle(sum, kLanesOfWarp - 1);
  return sum - value;
}

}  // namespace tito_fast
