// One level of the Haar transform and its inverse; bands are grouped band-major: all A, all H, all V, all D.
//
// For every 2x2 block a b / c d of every channel: A = (a+b+c+d)/4, H = (a-b+c-d)/4, V = (a+b-c-d)/4, D = (a-b-c+d)/4;
// back: a = A+H+V+D, b = A-H+V-D, c = A+H-V-D, d = A-H-V+D. Sums are in float32, in the order of the PyTorch module,
// and rounded once. Every input is read once and every output written once.
#pragma once

#include "common.cuh"

namespace bdflow {

struct Bands {
    float average, horizontal, vertical, diagonal;
};

struct Cell {
    float a, b, c, d;
};

__device__ __forceinline__ Bands analyse(const Cell& x) {
    const float top = x.a + x.b, bottom = x.c + x.d, left = x.a - x.b, right = x.c - x.d;
    return {(top + bottom) * 0.25f, (left + right) * 0.25f, (top - bottom) * 0.25f, (left - right) * 0.25f};
}

__device__ __forceinline__ Cell synthesise(const Bands& x) {
    const float top = x.average + x.vertical, bottom = x.average - x.vertical;
    const float left = x.horizontal + x.diagonal, right = x.horizontal - x.diagonal;
    return {top + left, top - left, bottom + right, bottom - right};
}

// A thread makes N neighbouring cells of a plane; blockIdx.y runs over the planes, images times channels.
// in: strides in elements; where N > 1 the last is 1 and all rows are aligned to 2N elements. out: contiguous.
template <typename T, int N>
__global__ void __launch_bounds__(256)
haar_forward(const T* __restrict__ in, T* __restrict__ out, int count, int channels, int height, int width,
             long long in_n, long long in_c, long long in_y, long long in_x) {
    const int groups = width / N;
    const int item = blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= height * groups) return;
    const int y = item / groups, x = (item - y * groups) * N;
    const long long band = static_cast<long long>(channels) * height * width;
    for (int plane = blockIdx.y; plane < count * channels; plane += gridDim.y) {
        const int n = plane / channels, c = plane - n * channels;
        const T* upper = in + n * in_n + c * in_c + 2 * y * in_y + 2 * x * in_x;
        Pack<T, 2 * N> top, bottom;
        if constexpr (N > 1) {
            top = load<T, 2 * N>(upper);
            bottom = load<T, 2 * N>(upper + in_y);
        } else {
            top = {upper[0], upper[in_x]};
            bottom = {upper[in_y], upper[in_y + in_x]};
        }
        Pack<T, N> average, horizontal, vertical, diagonal;
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const Bands bands = analyse({to_float(top.value[2 * i]), to_float(top.value[2 * i + 1]),
                                         to_float(bottom.value[2 * i]), to_float(bottom.value[2 * i + 1])});
            average.value[i] = from_float<T>(bands.average);
            horizontal.value[i] = from_float<T>(bands.horizontal);
            vertical.value[i] = from_float<T>(bands.vertical);
            diagonal.value[i] = from_float<T>(bands.diagonal);
        }
        T* target = out + n * 4 * band + (static_cast<long long>(c) * height + y) * width + x;
        store(target, average);
        store(target + band, horizontal);
        store(target + 2 * band, vertical);
        store(target + 3 * band, diagonal);
    }
}

// The same thread layout, the other way; height and width are those of a band. in: strides of the 4 * channels bands.
template <typename T, int N>
__global__ void __launch_bounds__(256)
haar_inverse(const T* __restrict__ in, T* __restrict__ out, int count, int channels, int height, int width,
             long long in_n, long long in_c, long long in_y, long long in_x) {
    const int groups = width / N;
    const int item = blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= height * groups) return;
    const int y = item / groups, x = (item - y * groups) * N;
    for (int plane = blockIdx.y; plane < count * channels; plane += gridDim.y) {
        const int n = plane / channels, c = plane - n * channels;
        const T* source = in + n * in_n + c * in_c + y * in_y + x * in_x;
        const long long band = channels * in_c;
        Pack<T, N> average, horizontal, vertical, diagonal;
        if constexpr (N > 1) {
            average = load<T, N>(source);
            horizontal = load<T, N>(source + band);
            vertical = load<T, N>(source + 2 * band);
            diagonal = load<T, N>(source + 3 * band);
        } else {
            average = {source[0]};
            horizontal = {source[band]};
            vertical = {source[2 * band]};
            diagonal = {source[3 * band]};
        }
        Pack<T, 2 * N> top, bottom;
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const Cell cell = synthesise({to_float(average.value[i]), to_float(horizontal.value[i]),
                                          to_float(vertical.value[i]), to_float(diagonal.value[i])});
            top.value[2 * i] = from_float<T>(cell.a);
            top.value[2 * i + 1] = from_float<T>(cell.b);
            bottom.value[2 * i] = from_float<T>(cell.c);
            bottom.value[2 * i + 1] = from_float<T>(cell.d);
        }
        const long long row = 2 * width;  // in 64 bits, or the compiler splits the second store in four
        T* upper = out + (static_cast<long long>(plane) * height + y) * 2 * row + 2 * x;
        store(upper, top);
        store(upper + row, bottom);
    }
}

}  // namespace bdflow
