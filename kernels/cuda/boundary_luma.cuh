// Stage 1 of boundary_mask.cuh: the luma of a tile and its halo, from any supported layout of pixels to bytes.
#pragma once

#include "common.cuh"

namespace bdflow {

enum Layout {
    kStrided,   // any strides, element by element
    kPacked,    // uint8 R G B R G B ..., rows aligned to 4 bytes
    kLoose,     // the same, aligned in any way
    kRows       // one plane per channel, rows aligned to 4 elements
};

constexpr int kTile = 64, kMaskThreads = 128;
// Blocks per SM: limits registers to 64 or, where the compiler would spill some of them, to 72.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
constexpr int kMaskBlocks = 7;
#else
constexpr int kMaskBlocks = 8;
#endif
constexpr int kWords = kTile / 4, kColumns = kWords + 2;    // across a tile, and with its halo
constexpr int kGroups = kMaskThreads / kColumns;        // of kColumns threads, in stages 1 and 2
constexpr int kLumaRows = kTile + 8, kSmoothRows = kTile + 4;
constexpr int kBlurRun = (kSmoothRows + kGroups - 1) / kGroups;  // rows per thread in stage 2
// Strides that spread a warp's accesses over the 32 banks: 10 * 21 = 18 and 8 * 18 = 16 (mod 32).
constexpr int kLumaStride = 21, kSmoothStride = 18;
constexpr int kRun = kTile * kWords / kMaskThreads;     // rows per thread in stage 3

struct alignas(16) MaskTile {
    union {
        unsigned luma[kBlurRun * kGroups + 4][kLumaStride];     // word c in element c + 1
        unsigned level[kTile][kWords];
    };
    unsigned smooth[kBlurRun * kGroups][kSmoothStride];         // blur XOR 0x80: signed bytes; row y in element y + 2
    float side[2][kTile + 2];   // the excess left and right of the tile; row y in element y + 1
};

// Of one image of the batch; strides in elements.
template <typename T>
struct Picture {
    const T* pixels;
    long long step_y, step_x, step_c;
    int height, width, channels;
};

// The index that reflect-101 maps to, for up to 2 outside; farther ones, which no pixel needs, stay inside the image.
__device__ __forceinline__ int reflect(int index, int length) {
    index = abs(min(max(index, -2), length + 1));
    if (index >= length) index = abs(2 * (length - 1) - index);
    return min(index, length - 1);
}

// Luma in byte 2: weights in units of 2^-16, and a half. The three of a pixel start at byte `first` of two words.
constexpr unsigned kRed = 2 * 9798, kGreen = 2 * 19235, kBlue = 2 * 3735, kHalf = 1 << 15;

__device__ __forceinline__ unsigned byte_2_of(unsigned a, unsigned b, unsigned c, unsigned d) {
    return __byte_perm(__byte_perm(a, b, 0x0062), __byte_perm(c, d, 0x0062), 0x5410);
}

__device__ __forceinline__ unsigned luma_of_packed(unsigned first, unsigned second, unsigned third) {
    const unsigned a = __dp2a_lo(kGreen << 16 | kRed, first, __dp2a_hi(kBlue, first, kHalf));
    const unsigned b = __dp2a_hi(kRed << 16, first, __dp2a_lo(kBlue << 16 | kGreen, second, kHalf));
    const unsigned c = __dp2a_hi(kGreen << 16 | kRed, second, __dp2a_lo(kBlue, third, kHalf));
    const unsigned d = __dp2a_lo(kRed << 16, third, __dp2a_hi(kBlue << 16 | kGreen, third, kHalf));
    return byte_2_of(a, b, c, d);
}

__device__ __forceinline__ unsigned luma_of_planes(unsigned red, unsigned green, unsigned blue) {
    const unsigned left = __byte_perm(red, green, 0x5140), right = __byte_perm(red, green, 0x7362);
    const unsigned a = __dp2a_lo(kGreen << 16 | kRed, left, __dp2a_lo(kBlue, blue, kHalf));
    const unsigned b = __dp2a_hi(kGreen << 16 | kRed, left, __dp2a_lo(kBlue << 16, blue, kHalf));
    const unsigned c = __dp2a_lo(kGreen << 16 | kRed, right, __dp2a_hi(kBlue, blue, kHalf));
    const unsigned d = __dp2a_hi(kGreen << 16 | kRed, right, __dp2a_hi(kBlue << 16, blue, kHalf));
    return byte_2_of(a, b, c, d);
}

// Two values of [0, 1] as rint(255 * x) in the low bytes of the halves: 1024 + 255 * x is rounded once, to a whole
// number, and saturation clamps and makes NaN 0.
__device__ __forceinline__ unsigned to_bytes(__half2 pair) {
    const __half2 clamped = __hmul2_sat(pair, __float2half2_rn(1.0f));
    const __half2 whole = __hfma2(clamped, __float2half2_rn(255.0f), __float2half2_rn(1024.0f));
    return *reinterpret_cast<const unsigned*>(&whole);
}

__device__ __forceinline__ unsigned to_byte(unsigned char value) { return value; }
__device__ __forceinline__ unsigned to_byte(__half value) { return to_bytes(__half2half2(value)) & 255; }

// Four pixels of one plane as bytes.
__device__ __forceinline__ unsigned load_four(const unsigned char* address) {
    return *reinterpret_cast<const unsigned*>(address);
}
__device__ __forceinline__ unsigned load_four(const __half* address) {
    const Pack<__half2, 2> four = *reinterpret_cast<const Pack<__half2, 2>*>(address);
    return __byte_perm(to_bytes(four.value[0]), to_bytes(four.value[1]), 0x6420);
}

template <int kLayout, typename T>
__device__ __forceinline__ unsigned luma_word(const T* address, const Picture<T>& in) {
    if constexpr (kLayout == kPacked) {
        const unsigned* words = reinterpret_cast<const unsigned*>(address);
        return luma_of_packed(words[0], words[1], words[2]);
    } else if constexpr (kLayout == kLoose) {
        const unsigned long long start = reinterpret_cast<unsigned long long>(address);
        const unsigned* words = reinterpret_cast<const unsigned*>(start & ~3ull);
        const unsigned shift = 8 * (start & 3), second = words[1], third = words[2];
        return luma_of_packed(__funnelshift_r(words[0], second, shift), __funnelshift_r(second, third, shift),
                              __funnelshift_r(third, words[3], shift));
    } else {
        if (in.channels == 1) return load_four(address);
        return luma_of_planes(load_four(address), load_four(address + in.step_c), load_four(address + 2 * in.step_c));
    }
}

template <typename T>
__device__ __forceinline__ unsigned luma_byte(const T* address, const Picture<T>& in) {
    const unsigned red = to_byte(*address);
    if (in.channels == 1) return red;
    const unsigned green = to_byte(address[in.step_c]), blue = to_byte(address[2 * in.step_c]);
    return (red * kRed + green * kGreen + blue * kBlue + kHalf) >> 16;
}

// Stage 1, of the words of one column that lie inside the image. Rows outside are reflected where there are any.
template <int kLayout, typename T>
__device__ __forceinline__ void luma_of_words(MaskTile& tile, const Picture<T>& in, int column, int group, int x,
                                              int y) {
    const T* base = in.pixels + x * in.step_x;
    if (y >= 0 && y + kLumaRows <= in.height) {
        const long long step = kGroups * in.step_y;
        base += (y + group) * in.step_y;
        constexpr int full = kLumaRows / kGroups;
        unsigned* target = &tile.luma[group][column + 1];
#pragma unroll (kLayout == kLoose ? 2 : 5)
        for (int i = 0; i < full; ++i, base += step)
            target[i * kGroups * kLumaStride] = luma_word<kLayout>(base, in);
        if (group + full * kGroups < kLumaRows) target[full * kGroups * kLumaStride] = luma_word<kLayout>(base, in);
    } else {
#pragma unroll 2
        for (int row = group; row < kLumaRows; row += kGroups)
            tile.luma[row][column + 1] = luma_word<kLayout>(base + reflect(y + row, in.height) * in.step_y, in);
    }
}

// Stage 1, of the words of one column of any image.
template <typename T>
__device__ __forceinline__ void luma_of_bytes(MaskTile& tile, const Picture<T>& in, int column, int group, int x,
                                              int y) {
#pragma unroll 1
    for (int row = group; row < kLumaRows; row += kGroups) {
        const T* base = in.pixels + reflect(y + row, in.height) * in.step_y;
        unsigned word = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) word |= luma_byte(base + reflect(x + i, in.width) * in.step_x, in) << 8 * i;
        tile.luma[row][column + 1] = word;
    }
}

template <typename T>
__device__ __forceinline__ void make_luma(MaskTile& tile, const Picture<T>& in, int layout, int left, int top) {
    const int group = threadIdx.x / kColumns, column = threadIdx.x % kColumns;
    if (group >= kGroups) return;
    const int x = left - 4 + 4 * column, y = top - 4;
    const int margin = layout == kLoose ? 4 : 0;    // of pixels around a word that may be read along with it
    if (layout == kStrided || x < margin || x + 4 + margin > in.width) {
        luma_of_bytes(tile, in, column, group, x, y);
    } else if (layout == kRows) {
        luma_of_words<kRows>(tile, in, column, group, x, y);
    } else {
        if constexpr (sizeof(T) == 1) {
            if (layout == kPacked) luma_of_words<kPacked>(tile, in, column, group, x, y);
            else luma_of_words<kLoose>(tile, in, column, group, x, y);
        }
    }
}

}  // namespace bdflow
