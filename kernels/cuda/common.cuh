// What every kernel shares. Plain CUDA C++17: NVRTC and nvcc compile it for the GPU, and the tests compile the very
// same files with g++ and run them thread by thread on the CPU.
#pragma once

#include <cuda_fp16.h>

// Shared memory by a macro, so that the tests can put it where they see it; `name` is one object per block.
#ifndef BDFLOW_SHARED
#define BDFLOW_SHARED(Type, name) __shared__ Type name
#endif

namespace bdflow {

// N values that move through memory in one access.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
    T value[N];
};

template <typename T, int N>
__device__ __forceinline__ Pack<T, N> load(const T* address) {
    return *reinterpret_cast<const Pack<T, N>*>(address);
}

template <typename T, int N>
__device__ __forceinline__ void store(T* address, const Pack<T, N>& pack) {
    *reinterpret_cast<Pack<T, N>*>(address) = pack;
}

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }

template <typename T>
__device__ __forceinline__ T from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value) { return value; }
template <>
__device__ __forceinline__ __half from_float<__half>(float value) { return __float2half_rn(value); }

}  // namespace bdflow
