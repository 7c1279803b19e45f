// Runs CUDA kernels on the CPU, for tests: every thread of a block is a fiber, a barrier is a switch to the next one.
//
// Included before the kernel source, which is compiled unchanged by g++ with CUDA's own host headers for half
// precision. Blocks run one after the other. The order of threads follows a seed: a kernel that lacks a barrier gives
// another result under another order. Shared memory holds garbage when a block starts.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <cuda_fp16.h>
#include <vector_types.h>

#undef __global__
#undef __device__
#undef __host__
#undef __forceinline__
#undef __launch_bounds__
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define BDFLOW_SHARED(Type, name) Type& name = shim::shared<Type>()
#define __syncthreads() shim::barrier(__LINE__)
// All threads of the block take part, as the threads of a warp must.
#define __shfl_up_sync(mask, value, delta, width) shim::shuffle(value, -(delta), width, __LINE__)
#define __shfl_down_sync(mask, value, delta, width) shim::shuffle(value, delta, width, __LINE__)

inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;

using std::max;
using std::min;

inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    const std::uint64_t bytes = static_cast<std::uint64_t>(high) << 32 | low;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i) {
        const unsigned pick = selector >> 4 * i & 0xf;
        unsigned byte = bytes >> 8 * (pick & 7) & 0xff;
        if (pick & 8) byte = byte & 0x80 ? 0xff : 0;
        result |= byte << 8 * i;
    }
    return result;
}
inline unsigned __dp4a(unsigned a, unsigned b, unsigned sum) {
    for (int i = 0; i < 32; i += 8) sum += (a >> i & 0xff) * (b >> i & 0xff);
    return sum;
}
inline int __dp4a(int a, int b, int sum) {
    for (int i = 0; i < 32; i += 8) sum += static_cast<signed char>(a >> i) * static_cast<signed char>(b >> i);
    return sum;
}
inline unsigned __dp2a_lo(unsigned a, unsigned b, unsigned sum) {
    return sum + (a & 0xffff) * (b & 0xff) + (a >> 16) * (b >> 8 & 0xff);
}
inline unsigned __dp2a_hi(unsigned a, unsigned b, unsigned sum) { return __dp2a_lo(a, b >> 16, sum); }
// In double, in which the product is exact, so that the sum is rounded once, to half.
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) {
    auto fma = [](__half x, __half y, __half z) {
        return __double2half(double(__half2float(x)) * __half2float(y) + __half2float(z));
    };
    return {fma(a.x, b.x, c.x), fma(a.y, b.y, c.y)};
}
inline unsigned __vmaxu4(unsigned a, unsigned b) {
    unsigned result = 0;
    for (int i = 0; i < 32; i += 8) result |= max(a >> i & 0xff, b >> i & 0xff) << i;
    return result;
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return static_cast<unsigned>((static_cast<std::uint64_t>(high) << 32 | low) >> (shift & 31));
}
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
// Up to 2 units in the last place off, as on a GPU.
inline float rsqrtf(float a) {
    float found = 1 / std::sqrt(a);
    const float to = std::lround(a) & 1 ? 0.0f : 1e30f;
    return std::nextafter(std::nextafter(found, to), to);
}
inline int __ffs(int a) { return __builtin_ffs(a); }
inline float __int_as_float(int bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
inline float __saturatef(float a) { return std::fmin(std::fmax(a, 0.0f), 1.0f); }
inline unsigned __float_as_uint(float a) {
    unsigned bits;
    std::memcpy(&bits, &a, sizeof bits);
    return bits;
}
inline int __float2int_rn(float a) { return static_cast<int>(std::nearbyintf(a)); }
template <typename T>
inline T __ldg(const T* address) { return *address; }

namespace shim {

constexpr std::size_t stack_bytes = 256 << 10, shared_bytes = 227 << 10;

struct Fiber {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(stack_bytes);
    uint3 index;
    std::size_t shared_used;
    int line;
    bool done;
};

inline std::vector<Fiber> fibers;
inline Fiber* current;
inline ucontext_t scheduler;
inline void (*body)(void*);
inline void* body_argument;
alignas(128) inline unsigned char shared_memory[shared_bytes];

inline void enter() {
    body(body_argument);
    current->done = true;
    swapcontext(&current->context, &scheduler);
}

inline void barrier(int line) {
    current->line = line;
    swapcontext(&current->context, &scheduler);
}

// The value of the thread `delta` further among `width` neighbours, or the own one where that is none of them.
template <typename T>
T shuffle(T value, int delta, int width, int line) {
    static std::vector<T> given;
    const int own = threadIdx.x, other = own + delta;
    given.resize(blockDim.x);
    given[own] = value;
    barrier(line);
    const T taken = other >= 0 && other / width == own / width ? given[other] : value;
    barrier(line);
    return taken;
}

// The n-th shared object that a thread names is the n-th of its block.
template <typename T>
T& shared() {
    std::size_t start = (current->shared_used + alignof(T) - 1) / alignof(T) * alignof(T);
    current->shared_used = start + sizeof(T);
    if (current->shared_used > shared_bytes) {
        std::fputs("a block takes more shared memory than any GPU has\n", stderr);
        std::abort();  // an exception cannot leave a fiber
    }
    return *reinterpret_cast<T*>(shared_memory + start);
}

inline void run_block(std::mt19937& random) {
    const unsigned count = blockDim.x * blockDim.y * blockDim.z;
    if (fibers.size() < count) fibers.resize(count);
    for (unsigned i = 0; i < sizeof shared_memory; i += 4096)
        std::memset(shared_memory + i, random(), std::min<std::size_t>(4096, sizeof shared_memory - i));
    for (unsigned i = 0; i < count; ++i) {
        Fiber& fiber = fibers[i];
        fiber.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
        fiber.shared_used = 0;
        fiber.done = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.data();
        fiber.context.uc_stack.ss_size = fiber.stack.size();
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, enter, 0);
    }
    std::vector<unsigned> order(count);
    std::iota(order.begin(), order.end(), 0u);
    while (!order.empty()) {
        std::shuffle(order.begin(), order.end(), random);
        for (unsigned i : order) {
            current = &fibers[i];
            threadIdx = current->index;
            swapcontext(&scheduler, &current->context);
        }
        order.erase(std::remove_if(order.begin(), order.end(), [](unsigned i) { return fibers[i].done; }), order.end());
        for (unsigned i : order)
            if (fibers[i].line != fibers[order[0]].line)
                throw std::runtime_error("threads of a block wait at the barriers of lines " +
                                         std::to_string(fibers[i].line) + " and " + std::to_string(fibers[order[0]].line));
    }
}

template <typename... A>
const char* run(void (*kernel)(A...), const unsigned* grid, const unsigned* block, void** arguments, unsigned seed) {
    static std::string failure;
    try {
        auto call = [&]<std::size_t... I>(std::index_sequence<I...>) {
            kernel(*static_cast<std::remove_const_t<A>*>(arguments[I])...);
        };
        auto thread = [&] { call(std::index_sequence_for<A...>{}); };
        body = [](void* argument) { (*static_cast<decltype(thread)*>(argument))(); };
        body_argument = &thread;
        gridDim = dim3(grid[0], grid[1], grid[2]);
        blockDim = dim3(block[0], block[1], block[2]);
        std::mt19937 random(seed);
        for (unsigned z = 0; z < grid[2]; ++z)
            for (unsigned y = 0; y < grid[1]; ++y)
                for (unsigned x = 0; x < grid[0]; ++x) {
                    blockIdx = {x, y, z};
                    run_block(random);
                }
        return nullptr;
    } catch (const std::exception& error) {
        failure = error.what();
        return failure.c_str();
    }
}

}  // namespace shim
