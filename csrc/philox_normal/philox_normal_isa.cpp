// Counter-based normals with the vectors of one instruction set.
#include "philox_normal/box_muller.h"
#include "philox_normal/philox_normal.h"

namespace tito_fast {
namespace TITO_ISA {
namespace {

constexpr int kNormals = 4 * kBlocks;  // of one vector of counters

TITO_INLINE void copy(const float* from, float* to, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = from[i];
}

}  // namespace

void philox_normal_row(std::uint64_t key, std::uint32_t replica, PhiloxStep step,
                       std::int64_t first, std::int64_t end, float* normals) {
  const RoundKeys keys = round_keys(key);
  Words lane{};
  for (int b = 0; b < kBlocks; ++b) lane[b] = static_cast<std::uint64_t>(b);
  for (std::int64_t block = first / 4; 4 * block < end; block += kBlocks) {
    Words word[4] = {lane + static_cast<std::uint64_t>(block),
                     Words{} + std::uint64_t{step.rollout_step}, Words{} + std::uint64_t{replica},
                     Words{} + std::uint64_t{step.stream_evaluation}};
    philox_4x32_10(word, keys);
    const std::int64_t begins = 4 * block;
    if (begins >= first && begins + kNormals <= end) {
      normals_of_words(word, normals + (begins - first));
      continue;
    }
    float all[kNormals];
    normals_of_words(word, all);
    const std::int64_t from = begins < first ? first : begins;
    const std::int64_t to = begins + kNormals < end ? begins + kNormals : end;
    copy(all + (from - begins), normals + (from - first), to - from);
  }
}

void box_muller_blocks(const std::uint32_t* words, float* normals, std::int64_t n_blocks) {
  for (std::int64_t block = 0; block < n_blocks; block += kBlocks) {
    const std::int64_t n_here = n_blocks - block < kBlocks ? n_blocks - block : kBlocks;
    Words word[4] = {};
    for (std::int64_t b = 0; b < n_here; ++b) {
      for (int w = 0; w < 4; ++w) word[w][b] = words[4 * (block + b) + w];
    }
    float all[kNormals];
    normals_of_words(word, all);
    copy(all, normals + 4 * block, 4 * n_here);
  }
}

}  // namespace TITO_ISA
}  // namespace tito_fast
