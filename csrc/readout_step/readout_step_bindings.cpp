// Python bindings of the op readout_step.
#include "bindings.h"
#include "common/mlp_bindings.h"
#include "readout_step/readout_step.h"

using namespace pybind11::literals;

namespace tito_fast {
namespace {

// v_weight, then the tensors of the mlp.
template <typename T>
Readout<T> readout_at(std::vector<Address> parameters, int n_features, int n_hidden) {
  if (parameters.empty()) {
    throw std::invalid_argument("parameters: expected 11 addresses, got none");
  }
  const Address v_weight = parameters[0];
  parameters.erase(parameters.begin());
  return {pointer<T>(v_weight), mlp_from<T>(parameters, n_features, n_hidden, 1)};
}

template <typename T>
void def_readout_step_cpu(py::module_& module, const std::string& suffix) {
  // inputs: scalars, vectors, positions, batch_ptr; outputs: velocity, new positions.
  module.def(("readout_step_fwd_cpu_" + suffix).c_str(),
             [](const std::vector<Address>& inputs, const std::vector<Address>& parameters,
                int n_features, int n_hidden, const std::vector<Address>& outputs, double step_size,
                std::int64_t n_rows, std::int64_t n_molecules, int n_threads) {
               const auto readout = readout_at<const T>(parameters, n_features, n_hidden);
               const ReadoutArrays<T> arrays{n_rows, pointer<const T>(inputs.at(0)),
                                             pointer<const T>(inputs.at(1))};
               const StepMolecules molecules{n_molecules,
                                             pointer<const std::int64_t>(inputs.at(3))};
               const StepArrays<T> step{pointer<const T>(inputs.at(2)), pointer<T>(outputs.at(0)),
                                        pointer<T>(outputs.at(1))};
               const py::gil_scoped_release release;
               readout_step_fwd_cpu<T>(readout, arrays, molecules, step, static_cast<T>(step_size),
                                       n_threads);
             },
             "inputs"_a, "parameters"_a, "n_features"_a, "n_hidden"_a, "outputs"_a, "step_size"_a,
             "n_rows"_a, "n_molecules"_a, "n_threads"_a);
  // inputs: scalars, vectors, batch_ptr; grads: of velocity and new positions; grad_inputs: of
  // scalars, vectors and positions, then memory for that of the readout.
  module.def(
      ("readout_step_bwd_cpu_" + suffix).c_str(),
      [](const std::vector<Address>& inputs, const std::vector<Address>& parameters, int n_features,
         int n_hidden, const std::vector<Address>& grads, const std::vector<Address>& grad_inputs,
         const std::vector<Address>& grad_parameters, double step_size, std::int64_t n_rows,
         std::int64_t n_molecules, int n_threads) {
        const auto readout = readout_at<const T>(parameters, n_features, n_hidden);
        const bool wants_parameters = !grad_parameters.empty();
        const auto gradient =
            wants_parameters ? readout_at<T>(grad_parameters, n_features, n_hidden) : Readout<T>{};
        const ReadoutArrays<T> arrays{n_rows, pointer<const T>(inputs.at(0)),
                                      pointer<const T>(inputs.at(1))};
        const StepMolecules molecules{n_molecules, pointer<const std::int64_t>(inputs.at(2))};
        const StepGradients<T> step{pointer<const T>(grads.at(0)), pointer<const T>(grads.at(1)),
                                    pointer<T>(grad_inputs.at(2)), pointer<T>(grad_inputs.at(3))};
        const ReadoutGradients<T> gradients{
            pointer<const T>(grad_inputs.at(3)), pointer<T>(grad_inputs.at(0)),
            pointer<T>(grad_inputs.at(1)), wants_parameters ? &gradient : nullptr};
        const py::gil_scoped_release release;
        readout_step_bwd_cpu<T>(readout, arrays, molecules, step, static_cast<T>(step_size),
                                gradients, n_threads);
      },
      "inputs"_a, "parameters"_a, "n_features"_a, "n_hidden"_a, "grads"_a, "grad_inputs"_a,
      "grad_parameters"_a, "step_size"_a, "n_rows"_a, "n_molecules"_a, "n_threads"_a);
}

}  // namespace

void bind_readout_step(py::module_& module) {
  def_readout_step_cpu<float>(module, "float32");
  def_readout_step_cpu<double>(module, "float64");
}

}  // namespace tito_fast
