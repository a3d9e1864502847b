#include "bindings.h"
#include "ot_couple/ot_couple.h"

namespace tito_fast {
namespace {

using namespace pybind11::literals;

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

}  // namespace

void bind_ot_couple(py::module_& module) {
  def_ot_couple_cpu<float>(module, "ot_couple_fwd_cpu_float32");
  def_ot_couple_cpu<double>(module, "ot_couple_fwd_cpu_float64");
}

}  // namespace tito_fast
