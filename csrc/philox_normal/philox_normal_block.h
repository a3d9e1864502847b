// What the CUDA blocks of philox_normal do (common/cuda_launch.h): one thread per block of four
// words, nothing shared.
#pragma once

#include <cstdint>
#include <string>

#include "common/host_device.h"
#include "common/launch.h"
#include "philox_normal/normals_block.h"

namespace tito_fast {

constexpr int kPhiloxThreads = 128;

// Writes the normals of all rows. Row r has counts[r] values from starts[r] on; starts[0] is taken
// to be zero and not read. Slots are numbers of blocks that some thread looks after: those of row r
// begin at starts[r] / 4 + r. Rounding down and one more leave each row enough of them, whatever
// its place, so which row a slot belongs to follows from starts alone, by bisection.
struct PhiloxNormalForward {
  static constexpr const char* kName = "philox_normal_fwd";
  static constexpr int kThreads = kPhiloxThreads;
  using Shared = NoShared;

  const std::int64_t* keys;
  const std::int64_t* replicas;
  const std::int64_t* counts;
  const std::int64_t* starts;
  const std::int64_t* rollout_step;  // on the device; null: that of step
  float* normals;
  std::int64_t n_rows;  // above 0
  std::int64_t n_total;
  PhiloxStep step;

  TITO_HOST_DEVICE std::int64_t n_slots() const { return n_total / 4 + n_rows; }

  std::string sizes() const {
    return "n_rows = " + std::to_string(n_rows) + ", n_total = " + std::to_string(n_total);
  }

  TITO_HOST_DEVICE std::int64_t start(std::int64_t row) const { return row == 0 ? 0 : starts[row]; }

  TITO_HOST_DEVICE std::int64_t row_of(std::int64_t slot) const {
    std::int64_t row = 0;
    for (std::int64_t end = n_rows; end - row > 1;) {
      const std::int64_t middle = row + (end - row) / 2;
      if (start(middle) / 4 + middle <= slot) {
        row = middle;
      } else {
        end = middle;
      }
    }
    return row;
  }

  template <typename Block>
  TITO_HOST_DEVICE void operator()(const Block& block, Shared&) const {
    const std::int64_t slot = block.index() * kThreads + block.thread();
    if (slot >= n_slots()) return;
    const std::int64_t row = row_of(slot);
    const std::int64_t first = start(row);
    const std::int64_t number = slot - (first / 4 + row);
    // counts are not read by the host: what would lie outside the array is left out.
    if (first < 0 || first >= n_total || counts[row] <= 4 * number) return;
    const std::int64_t place = first + 4 * number;
    const std::int64_t left = counts[row] - 4 * number;
    const std::int64_t room = n_total - place;
    const std::int64_t n_here = left < room ? left : room;
    if (n_here <= 0) return;
    PhiloxStep now = step;
    if (rollout_step != nullptr) now.rollout_step = static_cast<std::uint32_t>(*rollout_step);
    const FourNormals four = normals_of_block(keys[row], replicas[row], now, number);
    normals[place] = four.value[0];
    if (n_here > 1) normals[place + 1] = four.value[1];
    if (n_here > 2) normals[place + 2] = four.value[2];
    if (n_here > 3) normals[place + 3] = four.value[3];
  }
};

// Writes words (n, 4) from counters (n, 4) and keys (n, 2); every element holds 32 bits.
struct PhiloxIntegersForward {
  static constexpr const char* kName = "philox_integers_fwd";
  static constexpr int kThreads = kPhiloxThreads;
  using Shared = NoShared;

  const std::int64_t* counters;
  const std::int64_t* keys;
  std::int64_t* words;
  std::int64_t n;

  std::string sizes() const { return "n = " + std::to_string(n); }

  template <typename Block>
  TITO_HOST_DEVICE void operator()(const Block& block, Shared&) const {
    const std::int64_t i = block.index() * kThreads + block.thread();
    if (i >= n) return;
    PhiloxBlock counter;
    for (int w = 0; w < 4; ++w) counter.word[w] = static_cast<std::uint32_t>(counters[4 * i + w]);
    const PhiloxBlock cipher = philox_4x32_10(counter, static_cast<std::uint32_t>(keys[2 * i]),
                                              static_cast<std::uint32_t>(keys[2 * i + 1]));
    for (int w = 0; w < 4; ++w) words[4 * i + w] = cipher.word[w];
  }
};

// Writes normals (n_blocks, 4) from words (n_blocks, 4).
struct BoxMullerForward {
  static constexpr const char* kName = "box_muller_fwd";
  static constexpr int kThreads = kPhiloxThreads;
  using Shared = NoShared;

  const std::uint32_t* words;
  float* normals;
  std::int64_t n_blocks;

  std::string sizes() const { return "n_blocks = " + std::to_string(n_blocks); }

  template <typename Block>
  TITO_HOST_DEVICE void operator()(const Block& block, Shared&) const {
    const std::int64_t b = block.index() * kThreads + block.thread();
    if (b >= n_blocks) return;
    PhiloxBlock here;
    for (int w = 0; w < 4; ++w) here.word[w] = words[4 * b + w];
    const FourNormals four = normals_of_words(here);
    for (int w = 0; w < 4; ++w) normals[4 * b + w] = four.value[w];
  }
};

}  // namespace tito_fast
