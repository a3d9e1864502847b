// Python bindings of the op mlp.
#include "common/mlp_bindings.h"

#include "bindings.h"
#include "mlp/mlp_op.h"

using namespace pybind11::literals;

namespace tito_fast {
namespace {

template <typename T>
void def_mlp_cpu(py::module_& module, const std::string& suffix) {
  module.def(
      ("mlp_fwd_cpu_" + suffix).c_str(),
      [](Address inputs, const std::vector<Address>& parameters, const std::vector<int>& sizes,
         Address outputs, std::int64_t n_rows, int n_threads) {
        const auto mlp = mlp_from<const T>(parameters, sizes.at(0), sizes.at(1), sizes.at(2));
        const py::gil_scoped_release release;
        mlp_fwd_cpu<T>(mlp, {n_rows, pointer<const T>(inputs), pointer<T>(outputs)}, n_threads);
      },
      "inputs"_a, "parameters"_a, "sizes"_a, "outputs"_a, "n_rows"_a, "n_threads"_a);
  module.def(
      ("mlp_bwd_cpu_" + suffix).c_str(),
      [](Address inputs, const std::vector<Address>& parameters, const std::vector<int>& sizes,
         Address grad_outputs, Address grad_inputs, const std::vector<Address>& grad_parameters,
         std::int64_t n_rows, int n_threads) {
        const auto mlp = mlp_from<const T>(parameters, sizes.at(0), sizes.at(1), sizes.at(2));
        const bool wants_parameters = !grad_parameters.empty();
        const auto gradient =
            wants_parameters ? mlp_from<T>(grad_parameters, sizes.at(0), sizes.at(1), sizes.at(2))
                             : Mlp<T>{};
        const py::gil_scoped_release release;
        mlp_bwd_cpu<T>(mlp,
                       {n_rows, pointer<const T>(inputs), pointer<const T>(grad_outputs),
                        pointer<T>(grad_inputs)},
                       wants_parameters ? &gradient : nullptr, n_threads);
      },
      "inputs"_a, "parameters"_a, "sizes"_a, "grad_outputs"_a, "grad_inputs"_a, "grad_parameters"_a,
      "n_rows"_a, "n_threads"_a);
}

}  // namespace

void bind_mlp(py::module_& module) {
  def_mlp_cpu<float>(module, "float32");
  def_mlp_cpu<double>(module, "float64");
}

}  // namespace tito_fast
