// Python bindings.
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings.h"
#include "common/isa.h"
#include "ode_step/ode_step.h"
#include "ot_couple/ot_couple.h"
#include "philox_normal/philox_normal.h"

#ifdef TITO_FAST_WITH_CUDA
#include "common/cuda_info.h"
#endif

using namespace pybind11::literals;

namespace tito_fast {

void bind_painn_message(py::module_& module);
void bind_tito_network(py::module_& module);
void bind_edge_embed(py::module_& module);
void bind_mlp(py::module_& module);
void bind_painn_update(py::module_& module);
void bind_radius_graph(py::module_& module);
void bind_readout_step(py::module_& module);
void bind_time_embed(py::module_& module);

namespace {

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
void def_ode_step_cpu(py::module_& module, const char* suffix) {
  const std::string end = std::string("_cpu_") + suffix;
  module.def(("ode_step_fwd" + end).c_str(),
             [](Address positions, Address velocities, Address next, Address batch_ptr,
                std::int64_t n_atoms, std::int64_t n_molecules,
                const std::vector<double>& coefficients, bool center, int n_threads) {
               const auto stages = stage_coefficients<T>(coefficients);
               const py::gil_scoped_release release;
               ode_step_fwd_cpu<T>(pointer<const T>(positions), pointer<const T>(velocities),
                                   pointer<T>(next), pointer<const std::int64_t>(batch_ptr),
                                   n_atoms, n_molecules, stages, center, n_threads);
             },
             "positions"_a, "velocities"_a, "next"_a, "batch_ptr"_a, "n_atoms"_a, "n_molecules"_a,
             "coefficients"_a, "center"_a, "n_threads"_a);
  module.def(("ode_step_bwd" + end).c_str(),
             [](Address grad, Address grad_positions, Address grad_velocities, Address batch_ptr,
                std::int64_t n_atoms, std::int64_t n_molecules,
                const std::vector<double>& coefficients, bool center, int n_threads) {
               const auto stages = stage_coefficients<T>(coefficients);
               const py::gil_scoped_release release;
               ode_step_bwd_cpu<T>(pointer<const T>(grad), pointer<T>(grad_positions),
                                   pointer<T>(grad_velocities),
                                   pointer<const std::int64_t>(batch_ptr), n_atoms, n_molecules,
                                   stages, center, n_threads);
             },
             "grad"_a, "grad_positions"_a, "grad_velocities"_a, "batch_ptr"_a, "n_atoms"_a,
             "n_molecules"_a, "coefficients"_a, "center"_a, "n_threads"_a);
}

// Without CUDA in the build the names exist and say why they cannot run.
template <typename T>
void def_ode_step_cuda(py::module_& module, const char* suffix) {
  const std::string end = std::string("_cuda_") + suffix;
  module.def(("ode_step_fwd" + end).c_str(),
             []([[maybe_unused]] Address positions, [[maybe_unused]] Address velocities,
                [[maybe_unused]] Address next, [[maybe_unused]] Address batch_ptr,
                [[maybe_unused]] std::int64_t n_atoms, [[maybe_unused]] std::int64_t n_molecules,
                const std::vector<double>& coefficients, [[maybe_unused]] bool center,
                [[maybe_unused]] int device, [[maybe_unused]] Address stream) {
               [[maybe_unused]] const auto stages = stage_coefficients<T>(coefficients);
#ifdef TITO_FAST_WITH_CUDA
               const py::gil_scoped_release release;
               ode_step_fwd_cuda<T>(pointer<const T>(positions), pointer<const T>(velocities),
                                    pointer<T>(next), pointer<const std::int64_t>(batch_ptr),
                                    n_atoms, n_molecules, stages, center, device, stream);
#else
               throw std::runtime_error("ode_step: this build of tito_fast has no CUDA kernels");
#endif
             },
             "positions"_a, "velocities"_a, "next"_a, "batch_ptr"_a, "n_atoms"_a, "n_molecules"_a,
             "coefficients"_a, "center"_a, "device"_a, "stream"_a);
  module.def(("ode_step_bwd" + end).c_str(),
             []([[maybe_unused]] Address grad, [[maybe_unused]] Address grad_positions,
                [[maybe_unused]] Address grad_velocities, [[maybe_unused]] Address batch_ptr,
                [[maybe_unused]] std::int64_t n_atoms, [[maybe_unused]] std::int64_t n_molecules,
                const std::vector<double>& coefficients, [[maybe_unused]] bool center,
                [[maybe_unused]] int device, [[maybe_unused]] Address stream) {
               [[maybe_unused]] const auto stages = stage_coefficients<T>(coefficients);
#ifdef TITO_FAST_WITH_CUDA
               const py::gil_scoped_release release;
               ode_step_bwd_cuda<T>(pointer<const T>(grad), pointer<T>(grad_positions),
                                    pointer<T>(grad_velocities),
                                    pointer<const std::int64_t>(batch_ptr), n_atoms, n_molecules,
                                    stages, center, device, stream);
#else
               throw std::runtime_error(
                   "ode_step_backward: this build of tito_fast has no CUDA kernels");
#endif
             },
             "grad"_a, "grad_positions"_a, "grad_velocities"_a, "batch_ptr"_a, "n_atoms"_a,
             "n_molecules"_a, "coefficients"_a, "center"_a, "device"_a, "stream"_a);
}

template <typename T>
void def_ot_couple_cpu(py::module_& module, const char* name) {
  module.def(
      name,
      [](Address x_0, Address x_1, Address coupled, Address batch_ptr, std::int64_t n_atoms,
         std::int64_t n_molecules, bool permute_first, bool rotate, bool permute_last,
         int n_threads) {
        const py::gil_scoped_release release;
        ot_couple_fwd_cpu<T>(pointer<const T>(x_0), pointer<const T>(x_1), pointer<T>(coupled),
                             pointer<const std::int64_t>(batch_ptr), n_atoms, n_molecules,
                             CouplingSteps{permute_first, rotate, permute_last}, n_threads);
      },
      "x_0"_a, "x_1"_a, "coupled"_a, "batch_ptr"_a, "n_atoms"_a, "n_molecules"_a, "permute_first"_a,
      "rotate"_a, "permute_last"_a, "n_threads"_a);
}

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
  bind_painn_message(module);
  bind_tito_network(module);
  bind_edge_embed(module);
  def_ode_step_cpu<float>(module, "float32");
  def_ode_step_cpu<double>(module, "float64");
  def_ode_step_cuda<float>(module, "float32");
  def_ode_step_cuda<double>(module, "float64");
  def_ot_couple_cpu<float>(module, "ot_couple_fwd_cpu_float32");
  def_ot_couple_cpu<double>(module, "ot_couple_fwd_cpu_float64");
  module.def(
      "philox_normal_fwd_cpu",
      [](Address keys, Address replicas, Address counts, Address normals, std::int64_t n_rows,
         std::int64_t n_total, std::uint32_t rollout_step, std::uint32_t stream_evaluation,
         int n_threads) {
        const py::gil_scoped_release release;
        philox_normal_fwd_cpu(pointer<const std::int64_t>(keys),
                              pointer<const std::int64_t>(replicas),
                              pointer<const std::int64_t>(counts), pointer<float>(normals), n_rows,
                              n_total, PhiloxStep{rollout_step, stream_evaluation}, n_threads);
      },
      "keys"_a, "replicas"_a, "counts"_a, "normals"_a, "n_rows"_a, "n_total"_a, "rollout_step"_a,
      "stream_evaluation"_a, "n_threads"_a);
  module.def(
      "philox_normal_row_cpu",
      [](std::uint64_t key, std::uint32_t replica, std::uint32_t rollout_step,
         std::uint32_t stream_evaluation, std::int64_t first, std::int64_t end, Address normals) {
        const py::gil_scoped_release release;
        philox_normal_row(key, replica, PhiloxStep{rollout_step, stream_evaluation}, first, end,
                          pointer<float>(normals));
      },
      "key"_a, "replica"_a, "rollout_step"_a, "stream_evaluation"_a, "first"_a, "end"_a,
      "normals"_a);
  module.def(
      "box_muller_cpu",
      [](Address words, Address normals, std::int64_t n_blocks) {
        const py::gil_scoped_release release;
        box_muller_blocks(pointer<const std::uint32_t>(words), pointer<float>(normals), n_blocks);
      },
      "words"_a, "normals"_a, "n_blocks"_a);
  module.def(
      "philox_integers_cpu",
      [](Address counters, Address keys, Address words, std::int64_t n) {
        const py::gil_scoped_release release;
        philox_integers_cpu(pointer<const std::int64_t>(counters),
                            pointer<const std::int64_t>(keys), pointer<std::int64_t>(words), n);
      },
      "counters"_a, "keys"_a, "words"_a, "n"_a);
  bind_mlp(module);
  bind_painn_update(module);
  bind_radius_graph(module);
  bind_readout_step(module);
  bind_time_embed(module);
}
