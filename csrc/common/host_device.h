// Marks functions that run in a CUDA kernel and, for tests, on the host.
#pragma once

#ifdef __CUDACC__
#define TITO_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define TITO_HOST_DEVICE inline
#endif
