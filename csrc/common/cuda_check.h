// Errors of the CUDA runtime as exceptions, and the device of a launch.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

#include "common/cuda_info.h"

namespace tito_fast {

inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorName(status) + ", " +
                             cudaGetErrorString(status));
  }
}

// Makes `device` current for its lifetime.
class DeviceGuard {
 public:
  explicit DeviceGuard(int device) {
    if (cudaGetDevice(&previous_) != cudaSuccess) throw std::runtime_error(cuda_device_problem());
    if (device != previous_) check_cuda(cudaSetDevice(device), "device: cannot be selected");
    current_ = device;
  }
  ~DeviceGuard() {
    if (current_ != previous_) cudaSetDevice(previous_);
  }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

 private:
  int previous_ = 0;
  int current_ = 0;
};

}  // namespace tito_fast
