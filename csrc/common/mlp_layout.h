// Linears and MLPs as torch holds them. T is const for weights, and not for their gradients.
#pragma once

#include <cstdint>

namespace tito_fast {

// weight (n_out, n_in) with rows weight_stride apart, bias (n_out) or null.
template <typename T>
struct Linear {
  T* weight;
  T* bias;
  std::int64_t weight_stride;
  int n_in;
  int n_out;
};

// Linear, norm, SiLU, linear, norm, SiLU, linear. The norms' scale and shift are (n_hidden).
template <typename T>
struct Mlp {
  Linear<T> first;
  T* first_scale;
  T* first_shift;
  Linear<T> second;
  T* second_scale;
  T* second_shift;
  Linear<T> last;
};

}  // namespace tito_fast
