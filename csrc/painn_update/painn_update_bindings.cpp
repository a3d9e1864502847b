// Python bindings of the op painn_update.
#include "bindings.h"
#include "common/mlp_bindings.h"
#include "painn_update/painn_update.h"

using namespace pybind11::literals;

namespace tito_fast {
namespace {

// u_weight, v_weight, then the tensors of the mlp; u_weight is 0 without vectors.
template <typename T>
PainnUpdate<T> update_at(std::vector<Address> parameters, int n_features, int n_hidden) {
  if (parameters.size() < 2) {
    throw std::invalid_argument("parameters: expected 12 addresses, got " +
                                std::to_string(parameters.size()));
  }
  const Address u_weight = parameters[0];
  const Address v_weight = parameters[1];
  parameters.erase(parameters.begin(), parameters.begin() + 2);
  const int n_out = (u_weight == 0 ? 2 : 3) * n_features;
  return {n_features, pointer<T>(u_weight), pointer<T>(v_weight),
          mlp_from<T>(parameters, 2 * n_features, n_hidden, n_out)};
}

template <typename T>
void def_painn_update_cpu(py::module_& module, const std::string& suffix) {
  module.def(
      ("painn_update_fwd_cpu_" + suffix).c_str(),
      [](Address scalars, Address vectors, const std::vector<Address>& parameters, int n_features,
         int n_hidden, Address new_scalars, Address new_vectors, std::int64_t n_rows,
         int n_threads) {
        const auto update = update_at<const T>(parameters, n_features, n_hidden);
        const py::gil_scoped_release release;
        painn_update_fwd_cpu<T>(update,
                                {n_rows, pointer<const T>(scalars), pointer<const T>(vectors),
                                 pointer<T>(new_scalars), pointer<T>(new_vectors)},
                                n_threads);
      },
      "scalars"_a, "vectors"_a, "parameters"_a, "n_features"_a, "n_hidden"_a, "new_scalars"_a,
      "new_vectors"_a, "n_rows"_a, "n_threads"_a);
  // inputs: scalars, vectors; grads: of the new scalars and vectors; grad_inputs: of scalars and
  // vectors.
  module.def(
      ("painn_update_bwd_cpu_" + suffix).c_str(),
      [](const std::vector<Address>& inputs, const std::vector<Address>& parameters, int n_features,
         int n_hidden, const std::vector<Address>& grads, const std::vector<Address>& grad_inputs,
         const std::vector<Address>& grad_parameters, std::int64_t n_rows, int n_threads) {
        const auto update = update_at<const T>(parameters, n_features, n_hidden);
        const bool wants_parameters = !grad_parameters.empty();
        const auto gradient = wants_parameters ? update_at<T>(grad_parameters, n_features, n_hidden)
                                               : PainnUpdate<T>{};
        const PainnUpdateGradientArrays<T> arrays{
            n_rows,
            pointer<const T>(inputs.at(0)),
            pointer<const T>(inputs.at(1)),
            pointer<const T>(grads.at(0)),
            pointer<const T>(grads.at(1)),
            pointer<T>(grad_inputs.at(0)),
            pointer<T>(grad_inputs.at(1)),
        };
        const py::gil_scoped_release release;
        painn_update_bwd_cpu<T>(update, arrays, wants_parameters ? &gradient : nullptr, n_threads);
      },
      "inputs"_a, "parameters"_a, "n_features"_a, "n_hidden"_a, "grads"_a, "grad_inputs"_a,
      "grad_parameters"_a, "n_rows"_a, "n_threads"_a);
}

}  // namespace

void bind_painn_update(py::module_& module) {
  def_painn_update_cpu<float>(module, "float32");
  def_painn_update_cpu<double>(module, "float64");
}

}  // namespace tito_fast
