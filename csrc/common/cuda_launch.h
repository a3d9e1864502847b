// How kernels are written and launched.
//
// A kernel is a struct of pointers and sizes with
//   static constexpr const char* kName;   for messages
//   static constexpr int kThreads;        of a block, a multiple of 32
//   struct Shared;                        shared memory of a block, plain data, not initialised
//   std::string sizes() const;            for messages
//   template <typename Block>
//   TITO_HOST_DEVICE void operator()(const Block& block, Shared& shared) const;
// whose call operator is what each thread does. Block is CudaBlock below; tests compile the same
// sources against another file of this name, in which a block's threads are fibers on the host. All
// 32 lanes of a warp take part in each of its operations, all threads of a block in sync().
//
// Nothing here waits for the device: launches and memory operations are put on a stream.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

#include "common/cuda_check.h"
#include "common/host_device.h"
#include "common/launch.h"

namespace tito_fast {

class CudaBlock {
 public:
  __device__ __forceinline__ std::int64_t index() const { return blockIdx.x; }
  __device__ __forceinline__ std::int64_t n_blocks() const { return gridDim.x; }
  __device__ __forceinline__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ __forceinline__ int lane() const { return thread() % kLanesOfWarp; }
  __device__ __forceinline__ int warp() const { return thread() / kLanesOfWarp; }

  // Every write before it is seen by the block, or by the warp, after it.
  __device__ __forceinline__ void sync() const { __syncthreads(); }
  __device__ __forceinline__ void sync_warp() const { __syncwarp(); }
  // Writes before it are seen by other blocks before writes after it are.
  __device__ __forceinline__ void fence() const { __threadfence(); }

  // Bit l of the result is what lane l gave.
  __device__ __forceinline__ unsigned ballot(bool bit) const { return __ballot_sync(kAll, bit); }
  template <typename T>
  __device__ __forceinline__ T shuffle(T value, int source_lane) const {
    return __shfl_sync(kAll, value, source_lane);
  }
  // From lane ^ mask.
  template <typename T>
  __device__ __forceinline__ T shuffle_xor(T value, int mask) const {
    return __shfl_xor_sync(kAll, value, mask);
  }
  // From `delta` lanes below; the first `delta` lanes keep their own.
  template <typename T>
  __device__ __forceinline__ T shuffle_up(T value, int delta) const {
    return __shfl_up_sync(kAll, value, delta);
  }

  // On shared or global memory; the value before.
  __device__ __forceinline__ int atomic_add(int* address, int value) const {
    return atomicAdd(address, value);
  }
  __device__ __forceinline__ int atomic_max(int* address, int value) const {
    return atomicMax(address, value);
  }
  __device__ __forceinline__ int atomic_or(int* address, int value) const {
    return atomicOr(address, value);
  }

 private:
  static constexpr unsigned kAll = 0xFFFFFFFFU;
};

template <typename Kernel>
__global__ void __launch_bounds__(Kernel::kThreads)
    run_kernel(const __grid_constant__ Kernel kernel) {
  __shared__ typename Kernel::Shared shared;
  kernel(CudaBlock{}, shared);
}

// Throws with the kernel's name and sizes if it cannot be launched.
template <typename Kernel>
void launch(const Kernel& kernel, std::int64_t n_blocks, const Stream& stream) {
  static_assert(Kernel::kThreads % kLanesOfWarp == 0, "a block is made of whole warps");
  if (n_blocks == 0) return;
  const DeviceGuard guard(stream.device);
  if (n_blocks > std::numeric_limits<int>::max()) {
    throw std::runtime_error(launch_problem(kernel, n_blocks, "too many blocks"));
  }
  run_kernel<<<static_cast<unsigned>(n_blocks), Kernel::kThreads, 0,
               reinterpret_cast<cudaStream_t>(stream.address)>>>(kernel);
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) {
    throw std::runtime_error(
        launch_problem(kernel, n_blocks,
                       std::string(cudaGetErrorName(status)) + ", " + cudaGetErrorString(status)));
  }
}

inline void set_to_zero(void* address, std::size_t n_bytes, const Stream& stream) {
  const DeviceGuard guard(stream.device);
  check_cuda(cudaMemsetAsync(address, 0, n_bytes, reinterpret_cast<cudaStream_t>(stream.address)),
             "memory cannot be set to zero");
}

}  // namespace tito_fast
