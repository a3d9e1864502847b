#include <string>
#include <vector>

#include "bindings.h"
#include "ode_step/ode_step_cuda.h"
#include "ode_step/ode_step_stages.h"

namespace tito_fast {
namespace {

using namespace pybind11::literals;

template <typename T>
void def_ode_step_cuda(py::module_& module, const char* suffix) {
  const std::string end = std::string("_cuda_") + suffix;
  module.def(("ode_step_fwd" + end).c_str(),
             [](Address positions, Address velocities, Address next, Address batch_ptr,
                std::int64_t n_atoms, std::int64_t n_molecules,
                const std::vector<double>& coefficients, bool center, int device, Address stream) {
               const auto stages = stage_coefficients<T>(coefficients);
               const py::gil_scoped_release release;
               ode_step_fwd_cuda<T>(pointer<const T>(positions), pointer<const T>(velocities),
                                    pointer<T>(next), pointer<const std::int64_t>(batch_ptr),
                                    n_atoms, n_molecules, stages, center, Stream{device, stream});
             },
             "positions"_a, "velocities"_a, "next"_a, "batch_ptr"_a, "n_atoms"_a, "n_molecules"_a,
             "coefficients"_a, "center"_a, "device"_a, "stream"_a);
  module.def(("ode_step_bwd" + end).c_str(),
             [](Address grad, Address grad_positions, Address grad_velocities, Address batch_ptr,
                std::int64_t n_atoms, std::int64_t n_molecules,
                const std::vector<double>& coefficients, bool center, int device, Address stream) {
               const auto stages = stage_coefficients<T>(coefficients);
               const py::gil_scoped_release release;
               ode_step_bwd_cuda<T>(pointer<const T>(grad), pointer<T>(grad_positions),
                                    pointer<T>(grad_velocities),
                                    pointer<const std::int64_t>(batch_ptr), n_atoms, n_molecules,
                                    stages, center, Stream{device, stream});
             },
             "grad"_a, "grad_positions"_a, "grad_velocities"_a, "batch_ptr"_a, "n_atoms"_a,
             "n_molecules"_a, "coefficients"_a, "center"_a, "device"_a, "stream"_a);
}

template <typename T>
void def_noisy_ode_step_cuda(py::module_& module, const char* suffix) {
  module.def(
      (std::string("noisy_ode_step_fwd_cuda_") + suffix).c_str(),
      [](Address positions, Address velocities, Address next, Address batch_ptr,
         std::int64_t n_atoms, std::int64_t n_molecules, const std::vector<double>& coefficients,
         double noise_scale, Address keys, Address replicas, std::uint32_t rollout_step,
         std::uint32_t stream_evaluation, bool center, int device, Address stream) {
        const auto stages = stage_coefficients<T>(coefficients);
        const auto noise =
            step_noise<T>(keys, replicas, rollout_step, stream_evaluation, noise_scale);
        const py::gil_scoped_release release;
        noisy_ode_step_fwd_cuda<T>(pointer<const T>(positions), pointer<const T>(velocities),
                                   pointer<T>(next), pointer<const std::int64_t>(batch_ptr),
                                   n_atoms, n_molecules, stages, noise, center,
                                   Stream{device, stream});
      },
      "positions"_a, "velocities"_a, "next"_a, "batch_ptr"_a, "n_atoms"_a, "n_molecules"_a,
      "coefficients"_a, "noise_scale"_a, "keys"_a, "replicas"_a, "rollout_step"_a,
      "stream_evaluation"_a, "center"_a, "device"_a, "stream"_a);
}

template <typename T>
void def_embedded_ode_step_cuda(py::module_& module, const char* suffix) {
  module.def(
      (std::string("embedded_ode_step_fwd_cuda_") + suffix).c_str(),
      [](Address positions, Address velocities, Address next, Address error, Address batch_ptr,
         std::int64_t n_atoms, std::int64_t n_molecules, const std::vector<double>& weights,
         const std::vector<double>& error_weights, Address step_sizes, double absolute_tolerance,
         double relative_tolerance, bool center, int device, Address stream) {
        const auto pair = embedded_pair<T>(step_sizes, weights, error_weights, absolute_tolerance,
                                           relative_tolerance);
        const py::gil_scoped_release release;
        embedded_ode_step_fwd_cuda<T>(pointer<const T>(positions), pointer<const T>(velocities),
                                      pointer<T>(next), pointer<T>(error),
                                      pointer<const std::int64_t>(batch_ptr), n_atoms, n_molecules,
                                      pair, center, Stream{device, stream});
      },
      "positions"_a, "velocities"_a, "next"_a, "error"_a, "batch_ptr"_a, "n_atoms"_a,
      "n_molecules"_a, "weights"_a, "error_weights"_a, "step_sizes"_a, "absolute_tolerance"_a,
      "relative_tolerance"_a, "center"_a, "device"_a, "stream"_a);
}

}  // namespace

void bind_ode_step_cuda(py::module_& module) {
  def_ode_step_cuda<float>(module, "float32");
  def_ode_step_cuda<double>(module, "float64");
  def_noisy_ode_step_cuda<float>(module, "float32");
  def_noisy_ode_step_cuda<double>(module, "float64");
  def_embedded_ode_step_cuda<float>(module, "float32");
  def_embedded_ode_step_cuda<double>(module, "float64");
}

}  // namespace tito_fast
