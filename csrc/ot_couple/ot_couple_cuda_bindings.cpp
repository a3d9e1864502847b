#include <string>

#include "bindings.h"
#include "ot_couple/ot_couple_cuda.h"

namespace tito_fast {
namespace {

using namespace pybind11::literals;

template <typename T>
void def_ot_couple_cuda(py::module_& module, const char* suffix) {
  const std::string end = std::string("_cuda_") + suffix;
  module.def(("ot_couple_fwd_rotations" + end).c_str(),
             [](Address x_0, Address x_1, Address coupled, Address batch_ptr, std::int64_t n_atoms,
                std::int64_t n_molecules, int device, Address stream) {
               const py::gil_scoped_release release;
               ot_couple_fwd_rotations_cuda<T>(pointer<const T>(x_0), pointer<const T>(x_1),
                                               pointer<T>(coupled),
                                               pointer<const std::int64_t>(batch_ptr), n_atoms,
                                               n_molecules, Stream{device, stream});
             },
             "x_0"_a, "x_1"_a, "coupled"_a, "batch_ptr"_a, "n_atoms"_a, "n_molecules"_a, "device"_a,
             "stream"_a);
  module.def(
      ("ot_couple_fwd_permutations" + end).c_str(),
      [](Address x_0, Address x_1, Address coupled, Address batch_ptr, std::int64_t n_atoms,
         std::int64_t n_molecules, bool permute_first, bool rotate, bool permute_last,
         int max_atoms, int device, Address stream) {
        const py::gil_scoped_release release;
        ot_couple_fwd_permutations_cuda<T>(
            pointer<const T>(x_0), pointer<const T>(x_1), pointer<T>(coupled),
            pointer<const std::int64_t>(batch_ptr), n_atoms, n_molecules,
            CouplingSteps{permute_first, rotate, permute_last}, max_atoms, Stream{device, stream});
      },
      "x_0"_a, "x_1"_a, "coupled"_a, "batch_ptr"_a, "n_atoms"_a, "n_molecules"_a, "permute_first"_a,
      "rotate"_a, "permute_last"_a, "max_atoms"_a, "device"_a, "stream"_a);
}

}  // namespace

void bind_ot_couple_cuda(py::module_& module) {
  def_ot_couple_cuda<float>(module, "float32");
  def_ot_couple_cuda<double>(module, "float64");
}

}  // namespace tito_fast
