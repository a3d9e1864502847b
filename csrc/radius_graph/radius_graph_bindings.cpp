#include <string>

#include "bindings.h"
#include "radius_graph/radius_graph.h"

namespace tito_fast {
namespace {

using namespace pybind11::literals;

template <typename T>
void def_radius_graph(py::module_& module, const std::string& suffix) {
  using Search = RadiusSearch<T>;
  py::class_<Search>(module, ("RadiusSearch_cpu_" + suffix).c_str())
      .def(py::init([](Address positions, Address batch_ptr, Address boxes, std::int64_t n_boxes,
                       std::int64_t n_atoms, std::int64_t n_molecules, double cutoff,
                       Address edge_ptr, int n_threads) {
             const py::gil_scoped_release release;
             return new Search(pointer<const T>(positions), pointer<const std::int64_t>(batch_ptr),
                               Boxes<T>{pointer<const T>(boxes), n_boxes}, n_atoms, n_molecules,
                               cutoff, pointer<std::int64_t>(edge_ptr), n_threads);
           }),
           "positions"_a, "batch_ptr"_a, "boxes"_a, "n_boxes"_a, "n_atoms"_a, "n_molecules"_a,
           "cutoff"_a, "edge_ptr"_a, "n_threads"_a)
      .def_property_readonly("n_edges", &Search::n_edges)
      .def(
          "fill",
          [](const Search& search, Address edge_index, Address vec, Address dist, Address shifts,
             int n_threads) {
            std::int64_t* const source = pointer<std::int64_t>(edge_index);
            const EdgeArrays<T> edges{source, source + search.n_edges(), pointer<T>(vec),
                                      pointer<T>(dist), pointer<std::int32_t>(shifts)};
            const py::gil_scoped_release release;
            search.fill(edges, n_threads);
          },
          "edge_index"_a, "vec"_a, "dist"_a, "shifts"_a, "n_threads"_a);
  module.def(("radius_graph_bwd_cpu_" + suffix).c_str(),
             [](Address grad_vec, Address grad_dist, Address vec, Address dist, Address edge_index,
                Address edge_ptr, Address batch_ptr, std::int64_t n_atoms, std::int64_t n_molecules,
                Address grad_positions, int n_threads) {
               const GeometryGradient<T> edges{pointer<const T>(grad_vec),
                                               pointer<const T>(grad_dist),
                                               pointer<const T>(vec),
                                               pointer<const T>(dist),
                                               pointer<const std::int64_t>(edge_index),
                                               pointer<const std::int64_t>(edge_ptr)};
               const py::gil_scoped_release release;
               radius_graph_bwd_cpu<T>(edges, pointer<const std::int64_t>(batch_ptr), n_atoms,
                                       n_molecules, pointer<T>(grad_positions), n_threads);
             },
             "grad_vec"_a, "grad_dist"_a, "vec"_a, "dist"_a, "edge_index"_a, "edge_ptr"_a,
             "batch_ptr"_a, "n_atoms"_a, "n_molecules"_a, "grad_positions"_a, "n_threads"_a);
}

}  // namespace

void bind_radius_graph(py::module_& module) {
  def_radius_graph<float>(module, "float32");
  def_radius_graph<double>(module, "float64");
}

}  // namespace tito_fast
