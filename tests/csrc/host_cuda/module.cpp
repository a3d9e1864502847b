// The CUDA kernels' bindings, with kernels that run on the host (common/cuda_launch.h beside this
// file): addresses are those of host memory, device and stream are ignored.
#include "common/cuda_launch.h"
#include "cuda_bindings.h"

PYBIND11_MODULE(TITO_HOST_MODULE, module) {
  using namespace tito_fast;
  bind_cuda_kernels(module);
  module.def("set_seed", [](std::uint64_t seed) { host_device.seed = seed; });
  module.def("fail_next_launch", [](const std::string& reason) { host_device.failure = reason; });
  module.def("take_log", [] { return std::exchange(host_device.log, {}); });
}
