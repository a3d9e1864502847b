// The mlp of [scalars, encodings of the molecule], its first linear split. Arrays are as torch
// holds them: dense and row-major. Rows batch_ptr[m] .. batch_ptr[m + 1] belong to molecule m.
#pragma once

#include <cstdint>

#include "common/mlp_layout.h"

namespace tito_fast {

template <typename T>
struct TimeEmbedArrays {
  std::int64_t n_rows;
  std::int64_t n_molecules;
  const std::int64_t* batch_ptr;
  int n_features;
  const T* scalars;    // (n_rows, F)
  const T* encodings;  // (n_molecules, n_in - F)
};

template <typename T>
void time_embed_fwd_cpu(const Mlp<const T>& mlp, const TimeEmbedArrays<T>& arrays, T* outputs,
                        int n_threads);

template <typename T>
struct TimeEmbedGradients {
  const T* grad_outputs;
  T* grad_scalars;  // null where the gradients of both inputs are not wanted
  T* grad_encodings;
  const Mlp<T>* gradient;  // null where it is not wanted
};

template <typename T>
void time_embed_bwd_cpu(const Mlp<const T>& mlp, const TimeEmbedArrays<T>& arrays,
                        const TimeEmbedGradients<T>& gradients, int n_threads);

}  // namespace tito_fast
