// 8-bit Y'CbCr and RGB in [0, 1]. The coefficients come from kernels/colour.py, where their order and equations are.
#pragma once

#include "common.cuh"

namespace bdflow {

constexpr float kChromaCentre = 128.0f;
constexpr float kLargestLevel = 255.0f;

struct ToRgb {
    float luma_offset, luma_gain, red_cr, green_cb, green_cr, blue_cb;

    __device__ __forceinline__ float luma(unsigned char level) const {
        return (static_cast<float>(level) - luma_offset) * luma_gain;
    }

    // What a block's chroma adds to the luma of its pixels in channel 0, 1 or 2: red, green or blue.
    __device__ __forceinline__ float shift(int channel, unsigned char cb_level, unsigned char cr_level) const {
        const float cb = static_cast<float>(cb_level) - kChromaCentre, cr = static_cast<float>(cr_level) - kChromaCentre;
        if (channel == 0) return red_cr * cr;
        if (channel == 1) return -(green_cb * cb + green_cr * cr);
        return blue_cb * cb;
    }
};

struct FromRgb {
    float red, green, blue, luma_gain, luma_offset, cb_gain, cr_gain;

    __device__ __forceinline__ float luma(float r, float g, float b) const { return red * r + green * g + blue * b; }
};

// Rounds a value of 0..255 half to even. Beside 1.5 * 2^23 a float has no fraction bits left, so the addition rounds,
// and the low byte of the sum's bits is the level: one addition where a conversion runs at a quarter of the rate.
__device__ __forceinline__ unsigned char round_level(float value) {
    return static_cast<unsigned char>(__float_as_uint(value + 12582912.0f));
}

}  // namespace bdflow
