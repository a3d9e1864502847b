// What the CUDA runtime in this build is, and whether it can run here.
#pragma once

#include <string>

namespace tito_fast {

// Version of the toolkit as CUDART_VERSION gives it: 1000 major + 10 minor.
int cuda_toolkit_version();

// Empty when a device can be used, else why not.
std::string cuda_device_problem();

}  // namespace tito_fast
