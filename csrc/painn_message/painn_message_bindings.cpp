#include <stdexcept>
#include <string>
#include <vector>

#include "bindings.h"
#include "common/mlp_bindings.h"
#include "painn_message/painn_message.h"

namespace tito_fast {
namespace {

using namespace pybind11::literals;

// Addresses in the order of the structs' fields; 0 for null.
MessageGraph message_graph(const std::vector<Address>& arrays,
                           const std::vector<std::int64_t>& sizes) {
  return {sizes.at(0),
          sizes.at(1),
          sizes.at(2),
          sizes.at(3),
          pointer<const std::int64_t>(arrays.at(0)),
          pointer<const std::int64_t>(arrays.at(1)),
          pointer<const std::int64_t>(arrays.at(2)),
          pointer<const std::int64_t>(arrays.at(3)),
          pointer<const std::int64_t>(arrays.at(4))};
}

template <typename T>
MessageInputs<T> message_inputs(const std::vector<Address>& arrays, const std::vector<Address>& phi,
                                const std::vector<Address>& filter, int width) {
  return {pointer<const T>(arrays.at(0)),
          pointer<const T>(arrays.at(1)),
          pointer<const T>(arrays.at(2)),
          pointer<const T>(arrays.at(3)),
          pointer<const T>(arrays.at(4)),
          mlp_from<const T>(phi, 2 * width, width, 5 * width),
          mlp_from<const T>(filter, width, width, 5 * width)};
}

template <typename T>
void def_painn_message(py::module_& module, const char* suffix) {
  using Addresses = std::vector<Address>;
  module.def(
      (std::string("painn_message_fwd_cpu_") + suffix).c_str(),
      [](const Addresses& graph, const std::vector<std::int64_t>& sizes, const Addresses& inputs,
         const Addresses& phi, const Addresses& filter, const Addresses& outputs, int width,
         bool has_vectors, bool has_edges, bool adds_edges, double distance_length, int n_threads) {
        const MessageGraph edges = message_graph(graph, sizes);
        const MessageShape shape{width, has_vectors, has_edges, adds_edges, distance_length};
        const MessageInputs<T> in = message_inputs<T>(inputs, phi, filter, width);
        const MessageOutputs<T> out{pointer<T>(outputs.at(0)), pointer<T>(outputs.at(1)),
                                    pointer<T>(outputs.at(2)), pointer<T>(outputs.at(3))};
        const py::gil_scoped_release release;
        painn_message_fwd_cpu<T>(edges, shape, in, out, n_threads);
      },
      "graph"_a, "sizes"_a, "inputs"_a, "phi"_a, "filter"_a, "outputs"_a, "width"_a,
      "has_vectors"_a, "has_edges"_a, "adds_edges"_a, "distance_length"_a, "n_threads"_a);
  module.def(
      (std::string("painn_message_bwd_cpu_") + suffix).c_str(),
      [](const Addresses& graph, const std::vector<std::int64_t>& sizes, const Addresses& inputs,
         const Addresses& phi, const Addresses& filter, const Addresses& gradients,
         const Addresses& phi_gradients, const Addresses& filter_gradients, int width,
         bool has_vectors, bool has_edges, bool adds_edges, double distance_length, int n_threads) {
        const MessageGraph edges = message_graph(graph, sizes);
        const MessageShape shape{width, has_vectors, has_edges, adds_edges, distance_length};
        const MessageInputs<T> in = message_inputs<T>(inputs, phi, filter, width);
        const MessageGradients<T> out{pointer<const T>(gradients.at(0)),
                                      pointer<const T>(gradients.at(1)),
                                      pointer<const T>(gradients.at(2)),
                                      pointer<const T>(gradients.at(3)),
                                      pointer<T>(gradients.at(4)),
                                      pointer<T>(gradients.at(5)),
                                      pointer<T>(gradients.at(6)),
                                      pointer<T>(gradients.at(7)),
                                      pointer<T>(gradients.at(8)),
                                      mlp_from<T>(phi_gradients, 2 * width, width, 5 * width),
                                      mlp_from<T>(filter_gradients, width, width, 5 * width)};
        const py::gil_scoped_release release;
        painn_message_bwd_cpu<T>(edges, shape, in, out, n_threads);
      },
      "graph"_a, "sizes"_a, "inputs"_a, "phi"_a, "filter"_a, "gradients"_a, "phi_gradients"_a,
      "filter_gradients"_a, "width"_a, "has_vectors"_a, "has_edges"_a, "adds_edges"_a,
      "distance_length"_a, "n_threads"_a);
}

}  // namespace

void bind_painn_message(py::module_& module) {
  def_painn_message<float>(module, "float32");
  def_painn_message<double>(module, "float64");
}

}  // namespace tito_fast
