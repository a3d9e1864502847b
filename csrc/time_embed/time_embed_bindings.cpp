// Python bindings of the op time_embed.
#include "bindings.h"
#include "common/mlp_bindings.h"
#include "time_embed/time_embed.h"

using namespace pybind11::literals;

namespace tito_fast {
namespace {

// inputs: scalars, encodings, batch_ptr.
template <typename T>
TimeEmbedArrays<T> arrays_at(const std::vector<Address>& inputs, int n_features,
                             std::int64_t n_rows, std::int64_t n_molecules) {
  return {n_rows,
          n_molecules,
          pointer<const std::int64_t>(inputs.at(2)),
          n_features,
          pointer<const T>(inputs.at(0)),
          pointer<const T>(inputs.at(1))};
}

template <typename T>
void def_time_embed_cpu(py::module_& module, const std::string& suffix) {
  module.def(("time_embed_fwd_cpu_" + suffix).c_str(),
             [](const std::vector<Address>& inputs, const std::vector<Address>& parameters,
                const std::vector<int>& sizes, Address outputs, int n_features, std::int64_t n_rows,
                std::int64_t n_molecules, int n_threads) {
               const auto arrays = arrays_at<T>(inputs, n_features, n_rows, n_molecules);
               const auto mlp =
                   mlp_from<const T>(parameters, sizes.at(0), sizes.at(1), sizes.at(2));
               const py::gil_scoped_release release;
               time_embed_fwd_cpu<T>(mlp, arrays, pointer<T>(outputs), n_threads);
             },
             "inputs"_a, "parameters"_a, "sizes"_a, "outputs"_a, "n_features"_a, "n_rows"_a,
             "n_molecules"_a, "n_threads"_a);
  // grad_inputs: of scalars and encodings.
  module.def(
      ("time_embed_bwd_cpu_" + suffix).c_str(),
      [](const std::vector<Address>& inputs, const std::vector<Address>& parameters,
         const std::vector<int>& sizes, Address grad_outputs,
         const std::vector<Address>& grad_inputs, const std::vector<Address>& grad_parameters,
         int n_features, std::int64_t n_rows, std::int64_t n_molecules, int n_threads) {
        const auto arrays = arrays_at<T>(inputs, n_features, n_rows, n_molecules);
        const auto mlp = mlp_from<const T>(parameters, sizes.at(0), sizes.at(1), sizes.at(2));
        const bool wants_parameters = !grad_parameters.empty();
        const auto gradient =
            wants_parameters ? mlp_from<T>(grad_parameters, sizes.at(0), sizes.at(1), sizes.at(2))
                             : Mlp<T>{};
        const TimeEmbedGradients<T> gradients{
            pointer<const T>(grad_outputs), pointer<T>(grad_inputs.at(0)),
            pointer<T>(grad_inputs.at(1)), wants_parameters ? &gradient : nullptr};
        const py::gil_scoped_release release;
        time_embed_bwd_cpu<T>(mlp, arrays, gradients, n_threads);
      },
      "inputs"_a, "parameters"_a, "sizes"_a, "grad_outputs"_a, "grad_inputs"_a, "grad_parameters"_a,
      "n_features"_a, "n_rows"_a, "n_molecules"_a, "n_threads"_a);
}

}  // namespace

void bind_time_embed(py::module_& module) {
  def_time_embed_cpu<float>(module, "float32");
  def_time_embed_cpu<double>(module, "float64");
}

}  // namespace tito_fast
