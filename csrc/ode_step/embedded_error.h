// The error of an embedded step, of one element; the same operations on every device.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace tito_fast {

// sum_k coefficients[k] velocity_k of element e.
template <typename T>
TITO_HOST_DEVICE double step_error(const T* velocities, std::int64_t e, std::int64_t stride,
                                   const double* coefficients, std::int64_t n_stages) {
  double error = 0.0;
  for (std::int64_t k = 0; k < n_stages; ++k) {
    error += coefficients[k] * static_cast<double>(velocities[k * stride + e]);
  }
  return error;
}

// (error / (absolute + relative max(|before|, |after|)))^2
TITO_HOST_DEVICE double scaled_square(double error, double before, double after, double absolute,
                                      double relative) {
  const double size_before = before < 0.0 ? -before : before;
  const double size_after = after < 0.0 ? -after : after;
  const double size = size_before > size_after ? size_before : size_after;
  const double ratio = error / (absolute + relative * size);
  return ratio * ratio;
}

}  // namespace tito_fast
