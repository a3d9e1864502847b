// The calling thread among those of a parallel region; one thread without OpenMP.
#pragma once

#ifdef _OPENMP
#include <omp.h>
#endif

#include "common/simd.h"

namespace tito_fast {
namespace TITO_ISA {

inline int thread_number() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

inline int team_size() {
#ifdef _OPENMP
  return omp_get_num_threads();
#else
  return 1;
#endif
}

}  // namespace TITO_ISA
}  // namespace tito_fast
