// Compiled by nvcc, which alone knows where the runtime's headers are.
#include <cuda_runtime_api.h>

#include "common/cuda_info.h"

namespace tito_fast {

int cuda_toolkit_version() { return CUDART_VERSION; }

std::string cuda_device_problem() {
  int n_devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&n_devices);
  if (status != cudaSuccess) {
    cudaGetLastError();  // Clears it: the question is not a failure of a later launch.
    int driver_version = 0;
    if (cudaDriverGetVersion(&driver_version) == cudaSuccess && driver_version == 0) {
      return "no CUDA device can be used: no NVIDIA driver was found";
    }
    return std::string("no CUDA device can be used: ") + cudaGetErrorString(status);
  }
  return n_devices > 0 ? "" : "no CUDA device was found";
}

}  // namespace tito_fast
