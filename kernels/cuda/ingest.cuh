// From decoded frames to the network: uint8 RGB or NV12 -> [0, 1] -> first Haar level, in one pass.
//
// Frames are padded at the bottom and right by replication, inside the kernel: coordinates are clamped. Bytes per pixel
// of the frame, float16 planes: RGB 3 read + 6 written, NV12 1.5 read + 6 written; float32 planes: 12 written.
//
// RGB: the bands of the 8-bit levels are exact (quarters below 2^10), times float32(1/255) in one rounding.
// NV12: RGB in float32 by colour.cuh, clamped to [0, 1], then the Haar sums in float32. Chroma is replicated over its
// 2x2 block, which is a Haar cell; so it is in the padding too.
#pragma once

#include "colour.cuh"
#include "haar.cuh"

namespace bdflow {

constexpr float kPerLevel = 1.0f / 255.0f;

// 2N pixels of a row as three accesses: 6N bytes are no power of two.
template <int N>
struct Pixels {
    Pack<unsigned char, 2 * N> part[3];

    __device__ __forceinline__ float operator()(int pixel, int channel) const {
        const int byte = 3 * pixel + channel;
        return static_cast<float>(part[byte / (2 * N)].value[byte % (2 * N)]);
    }
};

// `direct`: all 2N pixels are in the frame, contiguous and aligned to 2N bytes.
template <int N>
__device__ __forceinline__ Pixels<N> load_pixels(const unsigned char* row, int first, int frame_width, bool direct,
                                                 long long in_x, long long in_c) {
    Pixels<N> pixels;
    if (direct) {
#pragma unroll
        for (int i = 0; i < 3; ++i) pixels.part[i] = load<unsigned char, 2 * N>(row + 3 * first + 2 * N * i);
    } else {
#pragma unroll
        for (int byte = 0; byte < 6 * N; ++byte) {
            const int column = min(first + byte / 3, frame_width - 1);
            pixels.part[byte / (2 * N)].value[byte % (2 * N)] = row[column * in_x + byte % 3 * in_c];
        }
    }
    return pixels;
}

// 2N contiguous bytes of a row; those from `end` on, counted from the row's start, repeat the last `step` before it.
template <int N>
__device__ __forceinline__ Pack<unsigned char, 2 * N> load_bytes(const unsigned char* row, int first, int end, int step,
                                                                 bool direct) {
    if (direct) return load<unsigned char, 2 * N>(row + first);
    Pack<unsigned char, 2 * N> bytes;
#pragma unroll
    for (int i = 0; i < 2 * N; ++i) bytes.value[i] = row[first + i < end ? first + i : end - step + i % step];
    return bytes;
}

// The four bands of one channel; `plane` is the distance from a channel to the next. 64 bits of it: with 32 the compiler
// no longer sees that the later bands are aligned, and splits their stores.
template <typename T, int N>
struct BandPacks {
    Pack<T, N> average, horizontal, vertical, diagonal;

    __device__ __forceinline__ void set(int i, const Bands& bands, float scale) {
        average.value[i] = from_float<T>(bands.average * scale);
        horizontal.value[i] = from_float<T>(bands.horizontal * scale);
        vertical.value[i] = from_float<T>(bands.vertical * scale);
        diagonal.value[i] = from_float<T>(bands.diagonal * scale);
    }

    __device__ __forceinline__ void write(T* target, long long plane) const {
        store(target, average);
        store(target + 3 * plane, horizontal);
        store(target + 6 * plane, vertical);
        store(target + 9 * plane, diagonal);
    }
};

// A thread makes N neighbouring cells of all 12 planes; blockIdx.y runs over the frames. height, width: of a plane.
// in: strides in bytes; `aligned`: pixels are contiguous and all rows start at a multiple of 2N bytes.
// out: (count, 12, height, width) contiguous; N divides width.
template <typename T, int N>
__global__ void __launch_bounds__(256)
ingest(const unsigned char* __restrict__ in, T* __restrict__ out, int count, int frame_height, int frame_width,
       int height, int width, int aligned, long long in_n, long long in_y, long long in_x, long long in_c) {
    const int groups = width / N;
    const int item = blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= height * groups) return;
    const int y = item / groups, x = (item - y * groups) * N;
    const long long plane = height * width;
    const bool direct = aligned && 2 * (x + N) <= frame_width;
    for (int n = blockIdx.y; n < count; n += gridDim.y) {
        const unsigned char* frame = in + n * in_n;
        const Pixels<N> top = load_pixels<N>(frame + min(2 * y, frame_height - 1) * in_y, 2 * x, frame_width, direct,
                                             in_x, in_c);
        const Pixels<N> bottom = load_pixels<N>(frame + min(2 * y + 1, frame_height - 1) * in_y, 2 * x, frame_width,
                                                direct, in_x, in_c);
        T* target = out + n * 12 * plane + y * width + x;
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            BandPacks<T, N> packs;
#pragma unroll
            for (int i = 0; i < N; ++i)
                packs.set(i, analyse({top(2 * i, c), top(2 * i + 1, c), bottom(2 * i, c), bottom(2 * i + 1, c)}),
                          kPerLevel);
            packs.write(target + c * plane, plane);
        }
    }
}

// The same thread layout from luma (count, frame_height, frame_width) and chroma, of half the size rounded up, pairs
// Cb Cr; both with contiguous rows. `aligned`: all rows of both start at a multiple of 2N bytes.
template <typename T, int N>
__global__ void __launch_bounds__(256)
ingest_nv12(const unsigned char* __restrict__ luma, const unsigned char* __restrict__ chroma, T* __restrict__ out,
            int count, int frame_height, int frame_width, int height, int width, int aligned, long long luma_n,
            long long luma_y, long long chroma_n, long long chroma_y, float luma_offset, float luma_gain, float red_cr,
            float green_cb, float green_cr, float blue_cb) {
    const ToRgb colour = {luma_offset, luma_gain, red_cr, green_cb, green_cr, blue_cb};
    const int groups = width / N;
    const int item = blockIdx.x * blockDim.x + threadIdx.x;
    if (item >= height * groups) return;
    const int y = item / groups, x = (item - y * groups) * N;
    const long long plane = height * width;
    const int upper = min(2 * y, frame_height - 1), lower = min(2 * y + 1, frame_height - 1);
    const int chroma_end = (frame_width + 1) / 2 * 2;
    const bool direct = aligned && 2 * (x + N) <= frame_width;
    for (int n = blockIdx.y; n < count; n += gridDim.y) {
        const unsigned char* picture = luma + n * luma_n;
        const auto top = load_bytes<N>(picture + upper * luma_y, 2 * x, frame_width, 1, direct);
        const auto bottom = load_bytes<N>(picture + lower * luma_y, 2 * x, frame_width, 1, direct);
        const auto pairs = load_bytes<N>(chroma + n * chroma_n + upper / 2 * chroma_y, 2 * x, chroma_end, 2, direct);
        T* target = out + n * 12 * plane + y * width + x;
#pragma unroll
        for (int c = 0; c < 3; ++c) {
            BandPacks<T, N> packs;
#pragma unroll
            for (int i = 0; i < N; ++i) {
                const float shift = colour.shift(c, pairs.value[2 * i], pairs.value[2 * i + 1]);
                packs.set(i,
                          analyse({__saturatef(colour.luma(top.value[2 * i]) + shift),
                                   __saturatef(colour.luma(top.value[2 * i + 1]) + shift),
                                   __saturatef(colour.luma(bottom.value[2 * i]) + shift),
                                   __saturatef(colour.luma(bottom.value[2 * i + 1]) + shift)}),
                          1.0f);
            }
            packs.write(target + c * plane, plane);
        }
    }
}

}  // namespace bdflow
