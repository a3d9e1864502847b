// An MLP from the addresses of its ten arrays, in the order of
// tito_fast.ops.mlp_parameters.MlpParameters.
#pragma once

#include <vector>

#include "bindings.h"
#include "common/mlp_layout.h"

namespace tito_fast {

template <typename T>
Mlp<T> mlp_from(const std::vector<Address>& arrays, int n_in, int n_hidden, int n_out) {
  const auto at = [&](int k) { return pointer<T>(arrays.at(k)); };
  return {{at(0), at(1), n_in, n_in, n_hidden},         at(2), at(3),
          {at(4), at(5), n_hidden, n_hidden, n_hidden}, at(6), at(7),
          {at(8), at(9), n_hidden, n_hidden, n_out}};
}

}  // namespace tito_fast
