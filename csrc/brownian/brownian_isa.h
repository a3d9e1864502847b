// What brownian_isa.cpp defines once per instruction set.
#pragma once

#include <cstdint>

#include "brownian/brownian.h"
#include "common/isa.h"

namespace tito_fast {

#define TITO_DECLARE(isa)                                                                   \
  namespace isa {                                                                           \
  /* Trajectories of a block. */                                                            \
  std::int64_t brownian_rows();                                                             \
  void brownian_block(const BrownianRun& run, std::int64_t block);                          \
  void brownian_normals(std::uint64_t seed, std::uint32_t dim, std::int64_t n_trajectories, \
                        std::int64_t n_steps, float* normals);                              \
  }
TITO_FOR_EACH_ISA(TITO_DECLARE)
#undef TITO_DECLARE

}  // namespace tito_fast
