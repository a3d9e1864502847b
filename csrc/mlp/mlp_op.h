// The MLP of common/mlp_layout.h on rows of features, as torch holds them: dense and row-major.
#pragma once

#include <cstdint>

#include "common/mlp_layout.h"

namespace tito_fast {

template <typename T>
struct MlpArrays {
  std::int64_t n_rows;
  const T* inputs;  // (n_rows, n_in)
  T* outputs;       // (n_rows, n_out)
};

template <typename T>
struct MlpGradientArrays {
  std::int64_t n_rows;
  const T* inputs;
  const T* grad_outputs;
  T* grad_inputs;  // null where it is not wanted
};

template <typename T>
void mlp_fwd_cpu(const Mlp<const T>& mlp, const MlpArrays<T>& arrays, int n_threads);

// gradient is null where it is not wanted.
template <typename T>
void mlp_bwd_cpu(const Mlp<const T>& mlp, const MlpGradientArrays<T>& arrays,
                 const Mlp<T>* gradient, int n_threads);

}  // namespace tito_fast
