#include <string>

#include "bindings.h"
#include "edge_embed/edge_embed.h"

using namespace pybind11::literals;

namespace tito_fast {
namespace {

template <typename T>
void def_edge_embed(py::module_& module, const std::string& suffix) {
  module.def(("edge_embed_fwd_cpu_" + suffix).c_str(),
             [](Address edge_type, Address table, Address features, std::int64_t n_edges,
                std::int64_t n_types, std::int64_t n_features, int n_threads) {
               const py::gil_scoped_release release;
               edge_embed_fwd_cpu<T>(pointer<const std::int64_t>(edge_type),
                                     pointer<const T>(table), pointer<T>(features),
                                     EdgeEmbedSizes{n_edges, n_types, n_features}, n_threads);
             },
             "edge_type"_a, "table"_a, "features"_a, "n_edges"_a, "n_types"_a, "n_features"_a,
             "n_threads"_a);
  module.def(("edge_embed_bwd_cpu_" + suffix).c_str(),
             [](Address edge_type, Address grad, Address grad_table, std::int64_t n_edges,
                std::int64_t n_types, std::int64_t n_features, int n_threads) {
               const py::gil_scoped_release release;
               edge_embed_bwd_cpu<T>(pointer<const std::int64_t>(edge_type), pointer<const T>(grad),
                                     pointer<T>(grad_table),
                                     EdgeEmbedSizes{n_edges, n_types, n_features}, n_threads);
             },
             "edge_type"_a, "grad"_a, "grad_table"_a, "n_edges"_a, "n_types"_a, "n_features"_a,
             "n_threads"_a);
}

}  // namespace

void bind_edge_embed(py::module_& module) {
  def_edge_embed<float>(module, "float32");
  def_edge_embed<double>(module, "float64");
}

}  // namespace tito_fast
