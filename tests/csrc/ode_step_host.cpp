// The block functions of the CUDA kernels, run on the host: a shared library for ctypes.
#include <cstdint>
#include <exception>

#include "host_block.h"
#include "ode_step/ode_step_block.h"

using tito_fast::StageCoefficients;
using tito_fast_test::HostBlock;
using tito_fast_test::HostContext;

namespace {

StageCoefficients<float> stages(const double* coefficients, int n_stages) {
  StageCoefficients<float> result{};
  result.n_stages = n_stages;
  for (int k = 0; k < n_stages; ++k) result.value[k] = static_cast<float>(coefficients[k]);
  return result;
}

template <typename Body>
int for_each_molecule(const std::int64_t* batch_ptr, std::int64_t n_molecules, int n_threads,
                      const Body& body) {
  try {
    HostBlock block(n_threads);
    for (std::int64_t m = 0; m < n_molecules; ++m) {
      if (batch_ptr[m] == batch_ptr[m + 1]) continue;
      block.run([&] { body(HostContext{&block}, batch_ptr[m], batch_ptr[m + 1]); });
    }
  } catch (const std::exception&) {
    return 1;
  }
  return 0;
}

}  // namespace

extern "C" int ode_step_fwd_host(const float* positions, const float* velocities, float* next,
                                 const std::int64_t* batch_ptr, std::int64_t n_atoms,
                                 std::int64_t n_molecules, const double* coefficients, int n_stages,
                                 int center, int n_threads) {
  const auto values = stages(coefficients, n_stages);
  return for_each_molecule(batch_ptr, n_molecules, n_threads,
                           [&](const HostContext& context, std::int64_t start, std::int64_t end) {
                             tito_fast::ode_step_fwd_block(context, positions, velocities, next,
                                                           start, end, n_atoms, values,
                                                           center != 0);
                           });
}

extern "C" int ode_step_bwd_host(const float* grad, float* grad_positions, float* grad_velocities,
                                 const std::int64_t* batch_ptr, std::int64_t n_atoms,
                                 std::int64_t n_molecules, const double* coefficients, int n_stages,
                                 int center, int n_threads) {
  const auto values = stages(coefficients, n_stages);
  return for_each_molecule(batch_ptr, n_molecules, n_threads,
                           [&](const HostContext& context, std::int64_t start, std::int64_t end) {
                             tito_fast::ode_step_bwd_block(context, grad, grad_positions,
                                                           grad_velocities, start, end, n_atoms,
                                                           values, center != 0);
                           });
}
