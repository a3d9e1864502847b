// philox_normal on a CUDA device; arrays as in philox_normal.h, bits as of the C++ kernels.
#pragma once

#include <cstdint>

#include "common/launch.h"
#include "philox_normal/philox_normal.h"

namespace tito_fast {

// Row r writes counts[r] values from starts[r] on: starts is the exclusive sum of counts, of which
// starts[0] = 0 is not read. A rollout_step that is not null is read on the device, in place of
// that of step. Values that lie outside n_total are left out.
void philox_normal_fwd_cuda(const std::int64_t* keys, const std::int64_t* replicas,
                            const std::int64_t* counts, const std::int64_t* starts,
                            const std::int64_t* rollout_step, float* normals, std::int64_t n_rows,
                            std::int64_t n_total, PhiloxStep step, const Stream& stream);

void box_muller_cuda(const std::uint32_t* words, float* normals, std::int64_t n_blocks,
                     const Stream& stream);

void philox_integers_cuda(const std::int64_t* counters, const std::int64_t* keys,
                          std::int64_t* words, std::int64_t n, const Stream& stream);

}  // namespace tito_fast
