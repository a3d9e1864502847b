// Python bindings.
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings.h"
#include "common/isa.h"

#ifdef TITO_FAST_WITH_CUDA
#include "common/cuda_info.h"
#include "cuda_bindings.h"
#endif

namespace tito_fast {

void bind_brownian(py::module_& module);
void bind_painn_message(py::module_& module);
void bind_tito_network(py::module_& module);
void bind_edge_embed(py::module_& module);
void bind_mlp(py::module_& module);
void bind_ode_step(py::module_& module);
void bind_ot_couple(py::module_& module);
void bind_painn_update(py::module_& module);
void bind_philox_normal(py::module_& module);
void bind_radius_graph(py::module_& module);
void bind_readout_step(py::module_& module);
void bind_time_embed(py::module_& module);

namespace {

std::string compiler_name() {
#if defined(__clang__)
  return std::string("clang ") + __clang_version__;
#elif defined(__GNUC__)
  return std::string("gcc ") + __VERSION__;
#else
  return "unknown";
#endif
}

// Oldest Linux driver that runs a toolkit of this major version (CUDA release notes, table
// "CUDA Toolkit and minimum required driver version for CUDA minor version compatibility").
[[maybe_unused]] std::string oldest_driver(int cuda_major) {
  switch (cuda_major) {
    case 11:
      return "450.80.02";
    case 12:
      return "525.60.13";
    case 13:
      return "580.65.06";
    default:
      return "unknown";
  }
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = compiler_name();
  info["baseline"] = TITO_FAST_BASELINE;
  info["best_isa"] = isa_name(best_isa());
  info["isa"] = isa_name(active_isa());
#ifdef _OPENMP
  info["openmp"] = true;
#else
  info["openmp"] = false;
#endif
#ifdef TITO_FAST_WITH_CUDA
  info["cuda"] = true;
  const int version = cuda_toolkit_version();
  info["cuda_version"] = std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
  info["cuda_architectures"] = TITO_FAST_CUDA_ARCHITECTURES;
  info["cuda_oldest_driver"] = oldest_driver(version / 1000);
#else
  info["cuda"] = false;
  info["cuda_version"] = py::none();
  info["cuda_architectures"] = py::none();
  info["cuda_oldest_driver"] = py::none();
#endif
  return info;
}

// Empty when the CUDA kernels of this build can run here, else why not.
std::string cuda_unavailable_reason() {
#ifdef TITO_FAST_WITH_CUDA
  return cuda_device_problem();
#else
  return "this build of tito_fast has no CUDA kernels";
#endif
}

}  // namespace
}  // namespace tito_fast

PYBIND11_MODULE(_C, module) {
  using namespace tito_fast;
  module.doc() = "Compiled kernels of tito_fast. Not public: use tito_fast.ops.";
  module.def("build_info", &build_info);
  module.def("cuda_unavailable_reason", &cuda_unavailable_reason);
  bind_brownian(module);
  bind_painn_message(module);
  bind_tito_network(module);
  bind_edge_embed(module);
  bind_mlp(module);
  bind_ode_step(module);
  bind_ot_couple(module);
  bind_painn_update(module);
  bind_philox_normal(module);
  bind_radius_graph(module);
  bind_readout_step(module);
  bind_time_embed(module);
#ifdef TITO_FAST_WITH_CUDA
  bind_cuda_kernels(module);
#endif
}
