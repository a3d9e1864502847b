// One block per molecule, one launch per step. Threads walk the molecule's elements in order, so
// that loads and stores are coalesced; the centring sum is a fixed tree in double (no atomics).
#include <cuda_runtime.h>

#include "common/cuda_check.h"
#include "ode_step/ode_step_block.h"

namespace tito_fast {
namespace {

constexpr int kThreads = 192;  // 3 * 2^6: one axis per thread, six warps

struct CudaBlock {
  double* shared_sums;
  __device__ __forceinline__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ __forceinline__ int n_threads() const { return kThreads; }
  __device__ __forceinline__ void sync() const { __syncthreads(); }
  __device__ __forceinline__ double* shared() const { return shared_sums; }
};

// batch_ptr is not read by the host, so rows outside the arrays are cut off here.
__device__ __forceinline__ std::int64_t clamped(std::int64_t row, std::int64_t n_atoms) {
  return row < 0 ? 0 : (row < n_atoms ? row : n_atoms);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    ode_step_fwd_kernel(const T* __restrict__ positions, const T* __restrict__ velocities,
                        T* __restrict__ next, const std::int64_t* __restrict__ batch_ptr,
                        std::int64_t n_atoms,
                        const __grid_constant__ StageCoefficients<T> coefficients, bool center) {
  __shared__ double sums[kThreads];
  const std::int64_t start = clamped(batch_ptr[blockIdx.x], n_atoms);
  const std::int64_t end = clamped(batch_ptr[blockIdx.x + 1], n_atoms);
  if (start >= end) return;
  ode_step_fwd_block(CudaBlock{sums}, positions, velocities, next, start, end, n_atoms,
                     coefficients, center);
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    ode_step_bwd_kernel(const T* __restrict__ grad, T* __restrict__ grad_positions,
                        T* __restrict__ grad_velocities, const std::int64_t* __restrict__ batch_ptr,
                        std::int64_t n_atoms,
                        const __grid_constant__ StageCoefficients<T> coefficients, bool center) {
  __shared__ double sums[kThreads];
  const std::int64_t start = clamped(batch_ptr[blockIdx.x], n_atoms);
  const std::int64_t end = clamped(batch_ptr[blockIdx.x + 1], n_atoms);
  if (start >= end) return;
  ode_step_bwd_block(CudaBlock{sums}, grad, grad_positions, grad_velocities, start, end, n_atoms,
                     coefficients, center);
}

}  // namespace

template <typename T>
void ode_step_fwd_cuda(const T* positions, const T* velocities, T* next,
                       const std::int64_t* batch_ptr, std::int64_t n_atoms,
                       std::int64_t n_molecules, StageCoefficients<T> coefficients, bool center,
                       int device, std::uintptr_t stream) {
  const DeviceGuard guard(device);
  if (n_molecules == 0) return;
  ode_step_fwd_kernel<T>
      <<<static_cast<unsigned>(n_molecules), kThreads, 0, reinterpret_cast<cudaStream_t>(stream)>>>(
          positions, velocities, next, batch_ptr, n_atoms, coefficients, center);
  check_cuda(cudaGetLastError(), "ode_step: launch failed");
}

template <typename T>
void ode_step_bwd_cuda(const T* grad, T* grad_positions, T* grad_velocities,
                       const std::int64_t* batch_ptr, std::int64_t n_atoms,
                       std::int64_t n_molecules, StageCoefficients<T> coefficients, bool center,
                       int device, std::uintptr_t stream) {
  const DeviceGuard guard(device);
  if (n_molecules == 0) return;
  ode_step_bwd_kernel<T>
      <<<static_cast<unsigned>(n_molecules), kThreads, 0, reinterpret_cast<cudaStream_t>(stream)>>>(
          grad, grad_positions, grad_velocities, batch_ptr, n_atoms, coefficients, center);
  check_cuda(cudaGetLastError(), "ode_step_backward: launch failed");
}

#define TITO_INSTANTIATE(T)                                                                     \
  template void ode_step_fwd_cuda<T>(const T*, const T*, T*, const std::int64_t*, std::int64_t, \
                                     std::int64_t, StageCoefficients<T>, bool, int,             \
                                     std::uintptr_t);                                           \
  template void ode_step_bwd_cuda<T>(const T*, T*, T*, const std::int64_t*, std::int64_t,       \
                                     std::int64_t, StageCoefficients<T>, bool, int,             \
                                     std::uintptr_t);
TITO_INSTANTIATE(float)
TITO_INSTANTIATE(double)
#undef TITO_INSTANTIATE

}  // namespace tito_fast
