#include <string>

#include "bindings.h"
#include "radius_graph/radius_graph_cuda.h"

namespace tito_fast {
namespace {

using namespace pybind11::literals;

template <typename T>
RadiusGraphInput<T> input_of(Address positions, Address batch_ptr, Address boxes,
                             std::int64_t n_boxes, std::int64_t n_atoms, std::int64_t n_molecules,
                             double cutoff) {
  return {pointer<const T>(positions),
          pointer<const std::int64_t>(batch_ptr),
          {pointer<const T>(boxes), n_boxes},
          n_atoms,
          n_molecules,
          cutoff};
}

template <typename T>
void def_radius_graph_cuda(py::module_& module, const char* suffix) {
  const std::string end = std::string("_cuda_") + suffix;
  module.def(("radius_graph_count" + end).c_str(),
             [](Address positions, Address batch_ptr, Address boxes, std::int64_t n_boxes,
                std::int64_t n_atoms, std::int64_t n_molecules, double cutoff, Address workspace,
                Address status, int device, Address stream) {
               const auto input =
                   input_of<T>(positions, batch_ptr, boxes, n_boxes, n_atoms, n_molecules, cutoff);
               const py::gil_scoped_release release;
               radius_graph_count_cuda<T>(input, pointer<void>(workspace),
                                          pointer<std::int64_t>(status), Stream{device, stream});
             },
             "positions"_a, "batch_ptr"_a, "boxes"_a, "n_boxes"_a, "n_atoms"_a, "n_molecules"_a,
             "cutoff"_a, "workspace"_a, "status"_a, "device"_a, "stream"_a);
  module.def(("radius_graph_fill" + end).c_str(),
             [](Address positions, Address batch_ptr, Address boxes, std::int64_t n_boxes,
                std::int64_t n_atoms, std::int64_t n_molecules, double cutoff, Address workspace,
                Address status, std::int64_t capacity, Address edge_ptr, Address edge_index,
                Address vec, Address dist, Address shifts, int device, Address stream) {
               const auto input =
                   input_of<T>(positions, batch_ptr, boxes, n_boxes, n_atoms, n_molecules, cutoff);
               std::int64_t* const source = pointer<std::int64_t>(edge_index);
               const EdgeArrays<T> edges{source, source + capacity, pointer<T>(vec),
                                         pointer<T>(dist), pointer<std::int32_t>(shifts)};
               const py::gil_scoped_release release;
               radius_graph_fill_cuda<T>(
                   input, pointer<void>(workspace), pointer<const std::int64_t>(status), capacity,
                   pointer<std::int64_t>(edge_ptr), edges, Stream{device, stream});
             },
             "positions"_a, "batch_ptr"_a, "boxes"_a, "n_boxes"_a, "n_atoms"_a, "n_molecules"_a,
             "cutoff"_a, "workspace"_a, "status"_a, "capacity"_a, "edge_ptr"_a, "edge_index"_a,
             "vec"_a, "dist"_a, "shifts"_a, "device"_a, "stream"_a);
  module.def(("radius_graph_bwd" + end).c_str(),
             [](Address grad_vec, Address grad_dist, Address vec, Address dist, Address edge_index,
                Address edge_ptr, std::int64_t n_atoms, std::int64_t capacity,
                Address grad_positions, int device, Address stream) {
               const GeometryGradient<T> edges{pointer<const T>(grad_vec),
                                               pointer<const T>(grad_dist),
                                               pointer<const T>(vec),
                                               pointer<const T>(dist),
                                               pointer<const std::int64_t>(edge_index),
                                               pointer<const std::int64_t>(edge_ptr)};
               const py::gil_scoped_release release;
               radius_graph_bwd_cuda<T>(edges, n_atoms, capacity, pointer<T>(grad_positions),
                                        Stream{device, stream});
             },
             "grad_vec"_a, "grad_dist"_a, "vec"_a, "dist"_a, "edge_index"_a, "edge_ptr"_a,
             "n_atoms"_a, "capacity"_a, "grad_positions"_a, "device"_a, "stream"_a);
}

}  // namespace

void bind_radius_graph_cuda(py::module_& module) {
  module.def(
      "radius_graph_workspace_cuda",
      [](std::int64_t n_atoms, std::int64_t n_molecules, bool /* has_box */, bool is_double) {
        return radius_graph_workspace_cuda(n_atoms, n_molecules, is_double);
      },
      "n_atoms"_a, "n_molecules"_a, "has_box"_a, "is_double"_a);
  def_radius_graph_cuda<float>(module, "float32");
  def_radius_graph_cuda<double>(module, "float64");
}

}  // namespace tito_fast
