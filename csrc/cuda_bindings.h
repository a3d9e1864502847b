// Every operation with CUDA kernels: for the module and for the tests, which run the kernels on the
// host.
#pragma once

#include "bindings.h"

namespace tito_fast {

void bind_ode_step_cuda(py::module_& module);
void bind_philox_normal_cuda(py::module_& module);

inline void bind_cuda_kernels(py::module_& module) {
  bind_ode_step_cuda(module);
  bind_philox_normal_cuda(module);
}

}  // namespace tito_fast
