// The update of PaiNN: with [gates, scale, add] = mlp([|V v|, s]),
//   s += |V v|^2 scale + add,  v += gates * (U v).
// Arrays are as torch holds them: dense and row-major.
#pragma once

#include <cstdint>

#include "common/mlp_layout.h"

namespace tito_fast {

// u_weight is null where nobody reads the vectors: the outputs of the mlp are then [scale, add]. T
// is const for weights, and not for their gradients.
template <typename T>
struct PainnUpdate {
  int n_features;
  T* u_weight;
  T* v_weight;
  Mlp<T> mlp;
};

template <typename T>
struct PainnUpdateArrays {
  std::int64_t n_rows;
  const T* scalars;  // (n_rows, F)
  const T* vectors;  // (n_rows, 3, F)
  T* new_scalars;
  T* new_vectors;  // not written without u_weight
};

template <typename T>
struct PainnUpdateGradientArrays {
  std::int64_t n_rows;
  const T* scalars;
  const T* vectors;
  const T* grad_new_scalars;
  const T* grad_new_vectors;  // not read without u_weight: what they pass on is the caller's
  T* grad_scalars;            // null where the gradients of both inputs are not wanted
  T* grad_vectors;
};

template <typename T>
void painn_update_fwd_cpu(const PainnUpdate<const T>& update, const PainnUpdateArrays<T>& arrays,
                          int n_threads);

// gradient is null where it is not wanted.
template <typename T>
void painn_update_bwd_cpu(const PainnUpdate<const T>& update,
                          const PainnUpdateGradientArrays<T>& arrays,
                          const PainnUpdate<T>* gradient, int n_threads);

}  // namespace tito_fast
