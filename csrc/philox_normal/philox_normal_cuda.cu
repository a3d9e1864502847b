// One thread per block of four words.
#include "common/cuda_launch.h"
#include "philox_normal/philox_normal_block.h"
#include "philox_normal/philox_normal_cuda.h"

namespace tito_fast {
namespace {

std::int64_t blocks_for(std::int64_t n_threads) {
  return (n_threads + kPhiloxThreads - 1) / kPhiloxThreads;
}

}  // namespace

void philox_normal_fwd_cuda(const std::int64_t* keys, const std::int64_t* replicas,
                            const std::int64_t* counts, const std::int64_t* starts,
                            const std::int64_t* rollout_step, float* normals, std::int64_t n_rows,
                            std::int64_t n_total, PhiloxStep step, const Stream& stream) {
  if (n_rows == 0 || n_total == 0) return;
  const PhiloxNormalForward kernel{keys,    replicas, counts,  starts, rollout_step,
                                   normals, n_rows,   n_total, step};
  launch(kernel, blocks_for(kernel.n_slots()), stream);
}

void box_muller_cuda(const std::uint32_t* words, float* normals, std::int64_t n_blocks,
                     const Stream& stream) {
  launch(BoxMullerForward{words, normals, n_blocks}, blocks_for(n_blocks), stream);
}

void philox_integers_cuda(const std::int64_t* counters, const std::int64_t* keys,
                          std::int64_t* words, std::int64_t n, const Stream& stream) {
  launch(PhiloxIntegersForward{counters, keys, words, n}, blocks_for(n), stream);
}

}  // namespace tito_fast
