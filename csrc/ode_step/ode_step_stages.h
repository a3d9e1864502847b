// Coefficients of a step as the bindings get them.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "ode_step/ode_step.h"

namespace tito_fast {

template <typename T>
StageCoefficients<T> stage_coefficients(const std::vector<double>& coefficients) {
  if (coefficients.size() > static_cast<std::size_t>(kMaxStages)) {
    throw std::invalid_argument("weights: expected at most " + std::to_string(kMaxStages) +
                                " stages, got " + std::to_string(coefficients.size()));
  }
  StageCoefficients<T> result{};
  result.n_stages = static_cast<int>(coefficients.size());
  for (std::size_t k = 0; k < coefficients.size(); ++k) {
    result.value[k] = static_cast<T>(coefficients[k]);
  }
  return result;
}

}  // namespace tito_fast
