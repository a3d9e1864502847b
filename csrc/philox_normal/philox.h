// Philox-4x32-10 (Salmon et al., SC11, doi:10.1145/2063384.2063405): a block cipher of a 128-bit
// counter under a 64-bit key, used as a random number generator without state.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace tito_fast {

struct PhiloxBlock {
  std::uint32_t word[4];
};

TITO_HOST_DEVICE PhiloxBlock philox_4x32_10(PhiloxBlock counter, std::uint32_t key_low,
                                            std::uint32_t key_high) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product_0 = std::uint64_t{0xD2511F53u} * counter.word[0];
    const std::uint64_t product_2 = std::uint64_t{0xCD9E8D57u} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(product_2 >> 32) ^ counter.word[1] ^ key_low,
                static_cast<std::uint32_t>(product_2),
                static_cast<std::uint32_t>(product_0 >> 32) ^ counter.word[3] ^ key_high,
                static_cast<std::uint32_t>(product_0)}};
    key_low += 0x9E3779B9u;
    key_high += 0xBB67AE85u;
  }
  return counter;
}

}  // namespace tito_fast
