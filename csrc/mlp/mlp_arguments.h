// An MLP from the addresses that Python passes: of the ten tensors of MlpParameters, in order.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "bindings.h"
#include "common/mlp_layout.h"

namespace tito_fast {

struct MlpSizes {
  int n_in;
  int n_hidden;
  int n_out;
};

template <typename T>
Mlp<T> mlp_at(const std::vector<Address>& addresses, const MlpSizes& sizes) {
  constexpr std::size_t kParameters = 10;
  if (addresses.size() != kParameters) {
    throw std::invalid_argument("parameters: expected 10 tensors, got " +
                                std::to_string(addresses.size()));
  }
  const auto at = [&](int i) { return pointer<T>(addresses[i]); };
  const auto& [n_in, n_hidden, n_out] = sizes;
  return {{at(0), at(1), n_in, n_in, n_hidden},         at(2), at(3),
          {at(4), at(5), n_hidden, n_hidden, n_hidden}, at(6), at(7),
          {at(8), at(9), n_hidden, n_hidden, n_out}};
}

inline MlpSizes mlp_sizes(const std::vector<int>& sizes) {
  if (sizes.size() != 3) {
    throw std::invalid_argument("sizes: expected n_in, n_hidden and n_out, got " +
                                std::to_string(sizes.size()) + " numbers");
  }
  return {sizes[0], sizes[1], sizes[2]};
}

}  // namespace tito_fast
