// The strict test d < cutoff without a root.
#pragma once

#include <cmath>
#include <limits>

namespace tito_fast {

// Squared distances below the result are those whose rounded root is below the cutoff.
template <typename T>
T squared_limit(T cutoff) {
  const T infinity = std::numeric_limits<T>::infinity();
  T limit = cutoff * cutoff;
  while (limit > T(0) && std::sqrt(limit) >= cutoff) limit = std::nextafter(limit, T(0));
  while (std::sqrt(limit) < cutoff) limit = std::nextafter(limit, infinity);
  return limit;
}

}  // namespace tito_fast
