#include "bindings.h"
#include "philox_normal/philox_normal.h"

namespace tito_fast {

using namespace pybind11::literals;

void bind_philox_normal(py::module_& module) {
  module.def(
      "philox_normal_fwd_cpu",
      [](Address keys, Address replicas, Address counts, Address normals, std::int64_t n_rows,
         std::int64_t n_total, std::uint32_t rollout_step, std::uint32_t stream_evaluation,
         int n_threads) {
        const py::gil_scoped_release release;
        philox_normal_fwd_cpu(pointer<const std::int64_t>(keys),
                              pointer<const std::int64_t>(replicas),
                              pointer<const std::int64_t>(counts), pointer<float>(normals), n_rows,
                              n_total, PhiloxStep{rollout_step, stream_evaluation}, n_threads);
      },
      "keys"_a, "replicas"_a, "counts"_a, "normals"_a, "n_rows"_a, "n_total"_a, "rollout_step"_a,
      "stream_evaluation"_a, "n_threads"_a);
  module.def(
      "philox_normal_row_cpu",
      [](std::uint64_t key, std::uint32_t replica, std::uint32_t rollout_step,
         std::uint32_t stream_evaluation, std::int64_t first, std::int64_t end, Address normals) {
        const py::gil_scoped_release release;
        philox_normal_row(key, replica, PhiloxStep{rollout_step, stream_evaluation}, first, end,
                          pointer<float>(normals));
      },
      "key"_a, "replica"_a, "rollout_step"_a, "stream_evaluation"_a, "first"_a, "end"_a,
      "normals"_a);
  module.def(
      "box_muller_cpu",
      [](Address words, Address normals, std::int64_t n_blocks) {
        const py::gil_scoped_release release;
        box_muller_blocks(pointer<const std::uint32_t>(words), pointer<float>(normals), n_blocks);
      },
      "words"_a, "normals"_a, "n_blocks"_a);
  module.def(
      "philox_integers_cpu",
      [](Address counters, Address keys, Address words, std::int64_t n) {
        const py::gil_scoped_release release;
        philox_integers_cpu(pointer<const std::int64_t>(counters),
                            pointer<const std::int64_t>(keys), pointer<std::int64_t>(words), n);
      },
      "counters"_a, "keys"_a, "words"_a, "n"_a);
}

}  // namespace tito_fast
