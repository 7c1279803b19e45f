// From the network to frames: first-level Haar planes -> picture -> clamped to [0, 1] -> uint8 RGB or NV12, in one pass.
//
// The picture is cropped to the frame's size. Bytes per pixel of the frame, float16 planes: 6 read + 3 written for RGB,
// 6 read + 1.5 written for NV12. Sums in float32; a NaN counts as 0; levels are rounded half to even.
//
// egress(ingest(x)) is x for every uint8 picture, in float16 too: A <= 1 is off by at most 2^-12 and each of |H|, |V|,
// |D| <= 1/2 by 2^-13, so a pixel by 2^-12 + 3 * 2^-13 = 0.00061, and half a level is 0.00196.
#pragma once

#include "colour.cuh"
#include "haar.cuh"

namespace bdflow {

constexpr int kEgressThreads = 256;

// The four bands of N neighbouring cells of one channel.
template <typename T, int N>
struct CellBands {
    Pack<T, N> band[4];

    // in: the channel's first band at the first cell; `aligned` accesses where N > 1.
    __device__ __forceinline__ CellBands(const T* in, long long in_c, long long in_x) {
#pragma unroll
        for (int b = 0; b < 4; ++b) {
            if constexpr (N > 1)
                band[b] = load<T, N>(in + 3 * b * in_c);
            else
                band[b].value[0] = in[3 * b * in_c];
        }
    }

    __device__ __forceinline__ Cell cell(int i) const {
        const Cell x = synthesise({to_float(band[0].value[i]), to_float(band[1].value[i]), to_float(band[2].value[i]),
                                   to_float(band[3].value[i])});
        return {__saturatef(x.a), __saturatef(x.b), __saturatef(x.c), __saturatef(x.d)};
    }
};

// The pixels of a block's cells, two rows, on their way from planes to interleaved bytes.
template <int N>
struct alignas(16) Strip {
    unsigned char row[2][kEgressThreads * 6 * N];
};

// All threads of a block copy `length` bytes, Run at a time; both addresses are multiples of Run.
template <int Run>
__device__ __forceinline__ void copy_row(const unsigned char* from, unsigned char* to, int length) {
    const int whole = length / Run;
    for (int i = threadIdx.x; i < whole; i += blockDim.x) store(to + Run * i, load<unsigned char, Run>(from + Run * i));
    if constexpr (Run > 1) {
        const int i = whole * Run + threadIdx.x;
        if (threadIdx.x < Run && i < length) to[i] = from[i];
    }
}

// A block makes both pixel rows of blockDim.x * N neighbouring cells, through shared memory, so that a warp writes
// whole sectors; blockIdx.y runs over the rows of cells of all pictures. blockDim.x is a multiple of 32.
// in: strides in elements; where N > 1 the last is 1, all rows are aligned to N elements, and N divides their length.
// out: strides in bytes, contiguous pixels; `run` is 16, 4 or 1 bytes, to which all rows are aligned.
template <typename T, int N>
__global__ void __launch_bounds__(kEgressThreads)
egress(const T* __restrict__ in, unsigned char* __restrict__ out, int count, int frame_height, int frame_width, int run,
       long long in_n, long long in_c, long long in_y, long long in_x, long long out_n, long long out_y) {
    BDFLOW_SHARED(Strip<N>, strip);
    const int lines = (frame_height + 1) / 2;
    const int group = blockIdx.x * blockDim.x + threadIdx.x;
    const int first = blockIdx.x * blockDim.x * 6 * N;
    const int length = min(static_cast<int>(blockDim.x) * 6 * N, 3 * frame_width - first);
    for (int line = blockIdx.y; line < count * lines; line += gridDim.y) {
        const int n = line / lines, y = line - n * lines;
        if (2 * group * N < frame_width) {
            const T* source = in + n * in_n + y * in_y + group * N * in_x;
            Pack<unsigned char, 2 * N> top[3], bottom[3];
#pragma unroll
            for (int c = 0; c < 3; ++c) {
                const CellBands<T, N> bands(source + c * in_c, in_c, in_x);
#pragma unroll
                for (int i = 0; i < N; ++i) {
                    const Cell cell = bands.cell(i);
                    const int left = 6 * i + c, right = left + 3;
                    top[left / (2 * N)].value[left % (2 * N)] = round_level(cell.a * kLargestLevel);
                    top[right / (2 * N)].value[right % (2 * N)] = round_level(cell.b * kLargestLevel);
                    bottom[left / (2 * N)].value[left % (2 * N)] = round_level(cell.c * kLargestLevel);
                    bottom[right / (2 * N)].value[right % (2 * N)] = round_level(cell.d * kLargestLevel);
                }
            }
#pragma unroll
            for (int i = 0; i < 3; ++i) {
                store(strip.row[0] + threadIdx.x * 6 * N + 2 * N * i, top[i]);
                store(strip.row[1] + threadIdx.x * 6 * N + 2 * N * i, bottom[i]);
            }
        }
        __syncthreads();
        for (int r = 0; r < min(2, frame_height - 2 * y); ++r) {
            unsigned char* target = out + n * out_n + (2 * y + r) * out_y + first;
            if (run == 16)
                copy_row<16>(strip.row[r], target, length);
            else if (run == 4)
                copy_row<4>(strip.row[r], target, length);
            else
                copy_row<1>(strip.row[r], target, length);
        }
        __syncthreads();
    }
}

// Over a cell's pixels inside the frame, of which `a` is always one.
__device__ __forceinline__ float block_mean(const Cell& x, bool right, bool lower) {
    const float top = right ? x.a + x.b : x.a, bottom = right ? x.c + x.d : x.c;
    return (lower ? top + bottom : top) * ((right ? 0.5f : 1.0f) * (lower ? 0.5f : 1.0f));
}

// Writes the first `count` of 2N bytes, at once where that is all of them and they are aligned.
template <int N>
__device__ __forceinline__ void store_bytes(unsigned char* to, const Pack<unsigned char, 2 * N>& bytes, int count,
                                            bool aligned) {
    if (aligned && count >= 2 * N) {
        store(to, bytes);
    } else {
#pragma unroll
        for (int i = 0; i < 2 * N; ++i)
            if (i < count) to[i] = bytes.value[i];
    }
}

// A thread makes N neighbouring cells; blockIdx.y runs over the pictures. in: as for `egress`.
// luma (count, frame_height, frame_width) and chroma, of half the size rounded up, pairs Cb Cr: strides in bytes,
// contiguous rows; `aligned`: all rows of both start at a multiple of 2N bytes.
template <typename T, int N>
__global__ void __launch_bounds__(256)
egress_nv12(const T* __restrict__ in, unsigned char* __restrict__ luma, unsigned char* __restrict__ chroma, int count,
            int frame_height, int frame_width, int aligned, long long in_n, long long in_c, long long in_y,
            long long in_x, long long luma_n, long long luma_y, long long chroma_n, long long chroma_y, float red,
            float green, float blue, float luma_gain, float luma_offset, float cb_gain, float cr_gain) {
    const FromRgb colour = {red, green, blue, luma_gain, luma_offset, cb_gain, cr_gain};
    const int lines = (frame_height + 1) / 2, columns = (frame_width + 1) / 2, groups = (columns + N - 1) / N;
    const int item = blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= lines * groups) return;
    const int y = item / groups, x = (item - y * groups) * N;
    const bool lower = 2 * y + 1 < frame_height;
    for (int n = blockIdx.y; n < count; n += gridDim.y) {
        const T* source = in + n * in_n + y * in_y + x * in_x;
        const CellBands<T, N> reds(source, in_c, in_x), greens(source + in_c, in_c, in_x),
            blues(source + 2 * in_c, in_c, in_x);
        Pack<unsigned char, 2 * N> top, bottom, pairs;
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const Cell r = reds.cell(i), g = greens.cell(i), b = blues.cell(i);
            const Cell grey = {colour.luma(r.a, g.a, b.a), colour.luma(r.b, g.b, b.b), colour.luma(r.c, g.c, b.c),
                               colour.luma(r.d, g.d, b.d)};
            top.value[2 * i] = round_level(grey.a * luma_gain + luma_offset);
            top.value[2 * i + 1] = round_level(grey.b * luma_gain + luma_offset);
            bottom.value[2 * i] = round_level(grey.c * luma_gain + luma_offset);
            bottom.value[2 * i + 1] = round_level(grey.d * luma_gain + luma_offset);
            const bool right = 2 * (x + i) + 1 < frame_width;
            const float blueness = block_mean(b, right, lower) - block_mean(grey, right, lower);
            const float redness = block_mean(r, right, lower) - block_mean(grey, right, lower);
            // Pure blue and red are half a level above 255 at full range.
            pairs.value[2 * i] = round_level(fminf(blueness * cb_gain + kChromaCentre, kLargestLevel));
            pairs.value[2 * i + 1] = round_level(fminf(redness * cr_gain + kChromaCentre, kLargestLevel));
        }
        unsigned char* picture = luma + n * luma_n + 2 * y * luma_y + 2 * x;
        store_bytes<N>(picture, top, frame_width - 2 * x, aligned);
        if (lower) store_bytes<N>(picture + luma_y, bottom, frame_width - 2 * x, aligned);
        store_bytes<N>(chroma + n * chroma_n + y * chroma_y + 2 * x, pairs, 2 * (columns - x), aligned);
    }
}

}  // namespace bdflow
