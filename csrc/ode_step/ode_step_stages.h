// What a step is made of, from what the bindings get.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings.h"
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

template <typename T>
StepNoise<T> step_noise(Address keys, Address replicas, std::uint32_t rollout_step,
                        std::uint32_t stream_evaluation, double scale) {
  return {pointer<const std::int64_t>(keys), pointer<const std::int64_t>(replicas),
          PhiloxStep{rollout_step, stream_evaluation}, static_cast<T>(scale)};
}

template <typename T>
EmbeddedPair<T> embedded_pair(Address step_sizes, const std::vector<double>& weights,
                              const std::vector<double>& error_weights, double absolute_tolerance,
                              double relative_tolerance) {
  return {pointer<const T>(step_sizes), stage_coefficients<double>(weights),
          stage_coefficients<double>(error_weights), absolute_tolerance, relative_tolerance};
}

}  // namespace tito_fast
