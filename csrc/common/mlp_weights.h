// Linears and MLPs as torch holds them.
#pragma once

#include <cstdint>

namespace tito_fast {

// A linear as torch holds it: weight (n_out, n_in) with rows weight_stride apart, bias (n_out) or
// null. T is const for weights, and not for their gradients.
template <typename T>
struct Linear {
  T* weight;
  T* bias;
  std::int64_t weight_stride;
  int n_in;
  int n_out;
};

// An MLP as torch holds it.
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
