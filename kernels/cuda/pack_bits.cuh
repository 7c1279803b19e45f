// Levels of 1 to 8 bits packed without gaps: row-major, most significant bit first, unused last bits 0; and back.
//
// Each picture starts on a byte of its own. A thread takes 8 levels to `Bits` whole bytes, so no two threads share one.
// Bytes per level: 1 read + Bits/8 written, and the other way round.
#pragma once

#include "common.cuh"

namespace bdflow {

// levels: (count, pixels), packed: (count, packed_size), both contiguous. Of a level only its low bits are kept.
// `aligned`: all pictures of `levels` start at a multiple of 8 bytes. blockIdx.y runs over the pictures.
template <int Bits>
__global__ void __launch_bounds__(256)
pack_bits(const unsigned char* __restrict__ levels, unsigned char* __restrict__ packed, int count, int pixels,
          int packed_size, int aligned) {
    const int group = blockIdx.x * blockDim.x + threadIdx.x;
    if (group > (pixels - 1) / 8) return;
    const int rest = pixels - 8 * group, bytes = packed_size - group * Bits;
    for (long long n = blockIdx.y; n < count; n += gridDim.y) {
        const unsigned char* source = levels + n * pixels + 8 * group;
        Pack<unsigned char, 8> eight;
        if (aligned && rest >= 8) {
            eight = load<unsigned char, 8>(source);
        } else {
#pragma unroll
            for (int i = 0; i < 8; ++i) eight.value[i] = i < rest ? source[i] : 0;
        }
        unsigned long long word = 0;
#pragma unroll
        for (int i = 0; i < 8; ++i) word = word << Bits | (eight.value[i] & ((1u << Bits) - 1));
        unsigned char* target = packed + n * packed_size + group * Bits;
#pragma unroll
        for (int i = 0; i < Bits; ++i)
            if (i < bytes) target[i] = static_cast<unsigned char>(word >> 8 * (Bits - 1 - i));
    }
}

// The same layout the other way; unused last bits are ignored.
template <int Bits>
__global__ void __launch_bounds__(256)
unpack_bits(const unsigned char* __restrict__ packed, unsigned char* __restrict__ levels, int count, int pixels,
            int packed_size, int aligned) {
    const int group = blockIdx.x * blockDim.x + threadIdx.x;
    if (group > (pixels - 1) / 8) return;
    const int rest = pixels - 8 * group, bytes = packed_size - group * Bits;
    for (long long n = blockIdx.y; n < count; n += gridDim.y) {
        const unsigned char* source = packed + n * packed_size + group * Bits;
        unsigned long long word = 0;
#pragma unroll
        for (int i = 0; i < Bits; ++i) word = word << 8 | (i < bytes ? source[i] : 0);
        Pack<unsigned char, 8> eight;
#pragma unroll
        for (int i = 0; i < 8; ++i)
            eight.value[i] = static_cast<unsigned char>(word >> Bits * (7 - i) & ((1u << Bits) - 1));
        unsigned char* target = levels + n * pixels + 8 * group;
        if (aligned && rest >= 8) {
            store(target, eight);
        } else {
#pragma unroll
            for (int i = 0; i < 8; ++i)
                if (i < rest) target[i] = eight.value[i];
        }
    }
}

}  // namespace bdflow
