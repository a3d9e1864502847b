#include "bindings.h"
#include "philox_normal/philox_normal_cuda.h"

namespace tito_fast {

using namespace pybind11::literals;

void bind_philox_normal_cuda(py::module_& module) {
  module.def(
      "philox_normal_fwd_cuda",
      [](Address keys, Address replicas, Address counts, Address starts, Address device_step,
         Address normals, std::int64_t n_rows, std::int64_t n_total, std::uint32_t rollout_step,
         std::uint32_t stream_evaluation, int device, Address stream) {
        const py::gil_scoped_release release;
        philox_normal_fwd_cuda(
            pointer<const std::int64_t>(keys), pointer<const std::int64_t>(replicas),
            pointer<const std::int64_t>(counts), pointer<const std::int64_t>(starts),
            pointer<const std::int64_t>(device_step), pointer<float>(normals), n_rows, n_total,
            PhiloxStep{rollout_step, stream_evaluation}, Stream{device, stream});
      },
      "keys"_a, "replicas"_a, "counts"_a, "starts"_a, "device_step"_a, "normals"_a, "n_rows"_a,
      "n_total"_a, "rollout_step"_a, "stream_evaluation"_a, "device"_a, "stream"_a);
  module.def(
      "box_muller_cuda",
      [](Address words, Address normals, std::int64_t n_blocks, int device, Address stream) {
        const py::gil_scoped_release release;
        box_muller_cuda(pointer<const std::uint32_t>(words), pointer<float>(normals), n_blocks,
                        Stream{device, stream});
      },
      "words"_a, "normals"_a, "n_blocks"_a, "device"_a, "stream"_a);
  module.def(
      "philox_integers_cuda",
      [](Address counters, Address keys, Address words, std::int64_t n, int device,
         Address stream) {
        const py::gil_scoped_release release;
        philox_integers_cuda(pointer<const std::int64_t>(counters),
                             pointer<const std::int64_t>(keys), pointer<std::int64_t>(words), n,
                             Stream{device, stream});
      },
      "counters"_a, "keys"_a, "words"_a, "n"_a, "device"_a, "stream"_a);
}

}  // namespace tito_fast
