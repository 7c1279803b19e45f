// The boundary-aware mask in one launch: luma, blur, Sobel, magnitude, suppression, threshold, levels, cell maximum.
//
// Whole numbers throughout, from the gradients on as floats that hold them exactly; every bit is that of
// `boundary_mask_reference`. A block makes 64 x 64 pixels: stage 1 the luma of 72 x 72 pixels, stage 2 its 5x5 blur over
// 68 x 68, stage 3 in registers the gradients, by how much their measure (|gx|+|gy|, or gx^2+gy^2) exceeds the
// threshold's, and the suppression. A thread takes four pixels, of which bytes lie in one 32-bit word, and goes down
// several rows. Words lie at columns -4, 0, 4, ... of the tile.
//
// Bytes per pixel through memory: RGB uint8 3 in and 1 out (float16 6 in; a magnitude 4 out; cells 1/cell^2 out).
// A block reads a halo of 4 pixels, 1.27 times its own, which its neighbours read at the same time: L2 serves that.
#pragma once

#include "boundary_luma.cuh"

namespace bdflow {

struct Levels {
    float limit;                    // edges have a measure above it; in units of the measure
    int threshold, range, steps;    // range = saturation - threshold
    float scale;                            // steps / range
};

struct Sums {
    unsigned left, right;   // of a word's pixels 0 and 1, and 2 and 3, in 16 bits each
};

__device__ __forceinline__ Sums blur_across(const unsigned* word) {
    const unsigned before = word[-1], own = word[0], after = word[1];
    const unsigned second = __dp4a(before, 0x01000000u, __dp4a(own, 0x01040604u, 0u));
    const unsigned fourth = __dp4a(own, 0x06040100u, __dp4a(after, 0x00000104u, 0u));
    return {__dp4a(before, 0x04010000u, __dp4a(own, 0x00010406u, second << 16)),
            __dp4a(own, 0x04060401u, __dp4a(after, 0x00000001u, fourth << 16))};
}

// At most 255 * 256 + 128 per half, so that no carry leaves it; the blur is the high byte.
__device__ __forceinline__ unsigned blur_down(unsigned a, unsigned b, unsigned c, unsigned d, unsigned e) {
    return a + e + 0x00800080u + 4 * (b + d) + 6 * c;
}

// Stage 2: each thread goes down one column of words with a window of five rows.
__device__ __forceinline__ void make_smooth(MaskTile& tile) {
    const int group = threadIdx.x / kColumns, column = threadIdx.x % kColumns;
    if (group >= kGroups) return;
    const int first = group * kBlurRun;
    const unsigned* source = &tile.luma[first][column + 1];
    unsigned* target = &tile.smooth[first][column];
    Sums window[5];
#pragma unroll
    for (int i = 0; i < 4; ++i) window[i] = blur_across(source + i * kLumaStride);
#pragma unroll
    for (int i = 0; i < kBlurRun; ++i) {
        window[(i + 4) % 5] = blur_across(source + (i + 4) * kLumaStride);
        const Sums &a = window[i % 5], &b = window[(i + 1) % 5], &c = window[(i + 2) % 5], &d = window[(i + 3) % 5],
                   &e = window[(i + 4) % 5];
        const unsigned left = blur_down(a.left, b.left, c.left, d.left, e.left);
        const unsigned right = blur_down(a.right, b.right, c.right, d.right, e.right);
        target[i * kSmoothStride] = __byte_perm(left, right, 0x7531) ^ 0x80808080u;
    }
}

// Calls visit(x, y, inner x, inner y) for every place of the blur's tile that touches the image from outside, with the
// nearest pixel of the image. Right and bottom are the first column and row outside.
template <typename Visit>
__device__ __forceinline__ void for_each_outside(int left, int top, int right, int bottom, Visit visit) {
    static_assert(kMaskThreads >= kSmoothRows, "one thread per place of a side");
    constexpr int margin = 2, end = kTile + margin;
    const int i = static_cast<int>(threadIdx.x) - margin;
    if (i >= end) return;
    const int x = min(max(i, -left), right - 1), y = min(max(i, -top), bottom - 1);
    if (top == 0) visit(i, -1, x, 0);
    if (bottom < end) visit(i, bottom, x, bottom - 1);
    if ((top == 0 && i == -1) || (bottom < end && i == bottom)) return;     // corners belong to the rows
    if (left == 0) visit(-1, i, 0, y);
    if (right < end) visit(right, i, right - 1, y);
}

// Gradients and measures are floats, exact, in units that keep measures below 1: saturation then cuts off at 0.
constexpr float kGradientUnit = 1.0f / 2048;
template <int kNorm>
constexpr float kMeasureUnit = kNorm == 1 ? kGradientUnit : kGradientUnit * kGradientUnit;

struct Gradient {
    float x, y;
};

// Sobel from three rows of signed bytes whose first (kFirst = 0) or second (1) is the left neighbour.
template <int kFirst>
__device__ __forceinline__ Gradient sobel(int upper, int own, int lower) {
    constexpr auto weights = [](int a, int b, int c) {
        return static_cast<int>(((a & 255u) | (b & 255u) << 8 | (c & 255u) << 16) << 8 * kFirst);
    };
    constexpr int across = weights(-1, 0, 1), twice = weights(-2, 0, 2);
    constexpr int up = weights(-1, -2, -1), down = weights(1, 2, 1);
    // The sum starts at the bits of 6144, whose last one stands for the unit: that makes it a float at no cost.
    constexpr int bits = 0x45C00000;
    constexpr float offset = 6144.0f;
    return {__int_as_float(__dp4a(lower, across, __dp4a(own, twice, __dp4a(upper, across, bits)))) - offset,
            __int_as_float(__dp4a(lower, down, __dp4a(upper, up, bits))) - offset};
}

// By how much the measure exceeds limit, or 0.
template <int kNorm>
__device__ __forceinline__ float excess_of(const Gradient& g, float limit) {
    if constexpr (kNorm == 1) return __saturatef(fabsf(g.x) + (fabsf(g.y) - limit));
    return __saturatef(__fmaf_rn(g.x, g.x, __fmaf_rn(g.y, g.y, -limit)));
}

struct Windows {
    int left, right;    // the pixels -1 to 2 and 1 to 4 of a word's neighbourhood
};

__device__ __forceinline__ Windows windows_of(const unsigned* word) {
    return {static_cast<int>(__byte_perm(word[-1], word[0], 0x6543)),
            static_cast<int>(__byte_perm(word[0], word[1], 0x4321))};
}

// Of one pixel of the tile or right beside it.
template <int kNorm>
__device__ __forceinline__ float excess_at(const MaskTile& tile, int x, int y, float limit) {
    const int byte = x + 3;     // of the left neighbour
    const unsigned* word = &tile.smooth[y + 1][byte >> 2];
    int rows[3];
#pragma unroll
    for (int j = 0; j < 3; ++j, word += kSmoothStride) rows[j] = __funnelshift_r(word[0], word[1], 8 * (byte & 3));
    return excess_of<kNorm>(sobel<0>(rows[0], rows[1], rows[2]), limit);
}

// Of the columns beside the tile; outside the image there is none.
template <int kNorm>
__device__ __forceinline__ void make_sides(MaskTile& tile, float limit, int left, int top, int height, int width) {
#pragma unroll 1
    for (int i = threadIdx.x; i < 2 * (kTile + 2); i += kMaskThreads) {
        const int side = i & 1, y = (i >> 1) - 1, x = side ? kTile : -1;
        const bool inside = left + x >= 0 && left + x < width && top + y >= 0 && top + y < height;
        tile.side[side][y + 1] = inside ? excess_at<kNorm>(tile, x, y, limit) : 0.0f;
    }
}

// A word's pixels: their gradients, and their excess with that of the pixels left and right of them.
struct Word {
    Gradient gradient[4];
    float excess[6];
};

// Which of the four pixels of `own` are edges, as four bytes of 0 or 1: their measure exceeds limit and the one
// neighbour's in the direction of their gradient and, in a straight direction, is no less than the other's, else
// exceeds it too. OpenCV rounds tan(22.5 deg) * 2^15 to 13573; a single rounding leaves the signs right.
template <int kNorm>
__device__ __forceinline__ unsigned edges_of(const Word& above, const Word& own, const Word& below) {
    constexpr float tangent = 13573.0f / 32768, least = kMeasureUnit<kNorm>;
    const float *up = above.excess, *at = own.excess, *down = below.excess;
    unsigned edges = 0;
    if (fmaxf(fmaxf(at[1], at[2]), fmaxf(at[3], at[4])) > 0) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const float x = own.gradient[j].x, y = own.gradient[j].y;
            // To be no less than a neighbour is to exceed what is one unit less; a pixel of no excess exceeds nothing.
            float rival = x * y < 0 ? fmaxf(up[j + 2], down[j]) : fmaxf(up[j], down[j + 2]);
            if (__fmaf_rn(-tangent - 2, fabsf(x), fabsf(y)) > 0) rival = fmaxf(up[j + 1], down[j + 1] - least);
            if (__fmaf_rn(-tangent, fabsf(x), fabsf(y)) < 0) rival = fmaxf(at[j], at[j + 2] - least);
            if (at[j + 1] > rival) edges |= 1u << 8 * j;
        }
    }
    return edges;
}

// Stage 3: each thread goes down one column of words with a window of three rows, and calls visit(row, edges). All
// threads take part to the end, as they read each other's excess. Of the rows -1, 0, ... those from `above` to before
// `below` are inside the image, and `room` columns.
template <int kNorm, typename Visit>
__device__ __forceinline__ void for_each_row(const MaskTile& tile, float limit, int column, int first, bool border,
                                             int room, int above, int below, Visit visit) {
    const unsigned* source = &tile.smooth[first][column + 1];
    Windows windows[3] = {windows_of(source), windows_of(source + kSmoothStride)};
    Word rows[3];
#pragma unroll
    for (int i = 0; i < kRun + 2; ++i) {
        windows[(i + 2) % 3] = windows_of(source + (i + 2) * kSmoothStride);
        const Windows &a = windows[i % 3], &b = windows[(i + 1) % 3], &c = windows[(i + 2) % 3];
        Word& row = rows[i % 3];
        row.gradient[0] = sobel<0>(a.left, b.left, c.left);
        row.gradient[1] = sobel<1>(a.left, b.left, c.left);
        row.gradient[2] = sobel<0>(a.right, b.right, c.right);
        row.gradient[3] = sobel<1>(a.right, b.right, c.right);
#pragma unroll
        for (int j = 0; j < 4; ++j) row.excess[j + 1] = excess_of<kNorm>(row.gradient[j], limit);
        if (border) {
            const bool outside = i < above || i >= below;
#pragma unroll
            for (int j = 0; j < 4; ++j)
                if (outside || j >= room) row.excess[j + 1] = 0;
        }
        row.excess[0] = __shfl_up_sync(0xffffffffu, row.excess[4], 1, kWords);
        row.excess[5] = __shfl_down_sync(0xffffffffu, row.excess[1], 1, kWords);
        if (column == 0) row.excess[0] = tile.side[0][first + i];
        if (column == kWords - 1) row.excess[5] = tile.side[1][first + i];
        if (i >= 2) visit(i - 2, edges_of<kNorm>(rows[(i + 1) % 3], rows[(i + 2) % 3], row));
    }
}

// 1 + the number of j in 1 ... steps - 1 with steps * magnitude >= steps * threshold + j * range: a float's estimate,
// at most one off, corrected in whole numbers.
template <int kNorm>
__device__ __forceinline__ unsigned level_of(float measure, const Levels& levels) {
    const unsigned steps = levels.steps, base = steps * levels.threshold, range = levels.range;
    const unsigned long long reached =
        static_cast<unsigned long long>(kNorm == 1 ? steps : steps * steps) * static_cast<unsigned>(measure);
    auto reaches = [&](unsigned j) {
        const unsigned long long bound = base + j * range;
        return reached >= (kNorm == 1 ? bound : bound * bound);
    };
    const float magnitude = kNorm == 1 ? measure : measure * rsqrtf(measure);
    const float estimate = (magnitude - levels.threshold) * levels.scale;
    unsigned j = static_cast<unsigned>(min(max(estimate, 0.0f), static_cast<float>(steps - 1)));
    if (j + 1 < steps && reaches(j + 1)) ++j;
    else if (j > 0 && !reaches(j)) --j;
    return 1 + j;
}

// Of 2^shift pixels a side, the maximum of each of the tile's levels; out is one image's.
__device__ __forceinline__ void write_cells(MaskTile& tile, unsigned char* out, int shift, int left, int top,
                                            int height, int width) {
    const int cell = 1 << shift, side = kTile >> shift;
#pragma unroll 1
    for (int i = threadIdx.x; i < side * kWords; i += kMaskThreads) {
        const int row = i / kWords << shift, column = i % kWords;
        unsigned most = 0;
#pragma unroll 2
        for (int j = 0; j < cell; ++j) most = __vmaxu4(most, tile.level[row + j][column]);
        tile.level[row][column] = most;
    }
    __syncthreads();
    const int out_height = (height - 1 >> shift) + 1, out_width = (width - 1 >> shift) + 1;
#pragma unroll 1
    for (int i = threadIdx.x; i < side * side; i += kMaskThreads) {
        const int row = i >> 6 - shift, column = i & side - 1, y = (top >> shift) + row, x = (left >> shift) + column;
        unsigned most = 0;
#pragma unroll 1
        for (int j = column << shift; j < column + 1 << shift; ++j)
            most = max(most, tile.level[row << shift][j >> 2] >> 8 * (j & 3) & 255);
        if (y < out_height && x < out_width) out[static_cast<long long>(y) * out_width + x] = most;
    }
}

// Stage 2. Outside the image the blur continues its edge.
__device__ __forceinline__ void luma_to_smooth(MaskTile& tile, bool border, int left, int top, int height, int width) {
    make_smooth(tile);
    __syncthreads();
    if (border) {
        unsigned char* bytes = reinterpret_cast<unsigned char*>(tile.smooth);
        auto at = [](int x, int y) { return (y + 2) * 4 * kSmoothStride + x + 4; };
        for_each_outside(left, top, width - left, height - top, [&](int x, int y, int inner_x, int inner_y) {
            bytes[at(x, y)] = bytes[at(inner_x, inner_y)];
        });
        __syncthreads();
    }
}

// Four levels or, where they are floats, zeros.
__device__ __forceinline__ void store_word(unsigned char* address, unsigned levels) {
    *reinterpret_cast<unsigned*>(address) = levels;
}
__device__ __forceinline__ void store_word(float* address, unsigned) { store(address, Pack<float, 4>{}); }

// The first `count` of them. The loop is not unrolled, which keeps it out of the way of the threads that store words.
template <typename Out>
__device__ __forceinline__ void store_some(Out* address, unsigned levels, int count) {
#pragma unroll 1
    for (int j = 0; j < min(count, 4); ++j) address[j] = sizeof(Out) == 1 ? levels >> 8 * j & 255 : 0;
}

// Stage 3 into memory; out is one image's. whole: words may be stored at once, rows hold whole words. Levels above 1
// and magnitudes, which few pixels have, follow a word of 0 and 1, or of 0.
template <int kNorm, typename Out>
__device__ __forceinline__ void smooth_to_mask(MaskTile& tile, Out* out, const Levels& levels, int shift, bool border,
                                               int left, int top, int height, int width, bool whole) {
    const int column = threadIdx.x % kWords, first = threadIdx.x / kWords * kRun;
    const int room = width - left - 4 * column, rows = height - top - first;
    const bool cells = sizeof(Out) == 1 && shift > 0, values = sizeof(Out) == 4 || levels.steps > 1;
    const bool simple = whole && !border && !cells;
    Out* const start = out + static_cast<long long>(top + first) * width + left + 4 * column;
    Out* target = start;
    unsigned found = 0;     // bit 4 * row + column
    auto visit = [&](int row, unsigned edges) {
        if (values) found |= (edges * 0x01020408u >> 24) << 4 * row;
        if (simple) {
            store_word(target, edges);
        } else if (cells) {
            tile.level[first + row][column] = edges;
        } else if (row < rows && room > 0) {
            if (whole) store_word(target, edges);
            else store_some(target, edges, room);
        }
        target += width;
    };
    for_each_row<kNorm>(tile, levels.limit, column, first, border, room, top + first == 0, rows + 1, visit);
#pragma unroll 1
    for (; found; found &= found - 1) {
        const int bit = __ffs(found) - 1, row = bit >> 2, x = bit & 3;
        const float measure = excess_at<kNorm>(tile, 4 * column + x, first + row, 0) / kMeasureUnit<kNorm>;
        Out* const address = start + static_cast<long long>(row) * width + x;
        if constexpr (sizeof(Out) == 4) {
            *address = kNorm == 1 ? measure : __fsqrt_rn(measure);
        } else {
            const unsigned level = level_of<kNorm>(measure, levels);
            if (cells) reinterpret_cast<unsigned char*>(&tile.level[first + row][column])[x] = level;
            else *address = level;
        }
    }
    if constexpr (sizeof(Out) == 1) {
        if (!cells) return;
        __syncthreads();
        write_cells(tile, out, shift, left, top, height, width);
    }
}

// A number of tiles, and what divides by it: index / tiles = index * magic >> shift, for every index below 2^31.
struct Tiles {
    unsigned count, magic;
    int shift;

    __device__ __forceinline__ unsigned divide(unsigned index) const {
        return static_cast<unsigned long long>(index) * magic >> shift;
    }
};

// blockIdx.x runs over all tiles: those of a row, the rows of an image, the images. There is no loop over tiles, out of
// which the compiler would move so much that it ran out of registers.
// T: unsigned char, or __half in [0, 1]; Out: unsigned char for levels, float for the magnitude on edges.
// in: strides in elements. out: contiguous; of levels, the maximum of every cell of 2^shift pixels a side.
template <typename T, int kNorm, typename Out>
__global__ void __launch_bounds__(kMaskThreads, kMaskBlocks)
boundary_mask(const T* __restrict__ in, Out* __restrict__ out, int height, int width, int channels, long long in_n,
              long long in_y, long long in_x, long long in_c, int layout, int limit, int threshold, int range,
              int steps, float scale, int shift, int whole, int across, unsigned across_magic, int across_shift,
              int down, unsigned down_magic, int down_shift) {
    BDFLOW_SHARED(MaskTile, tile);
    const Tiles columns = {static_cast<unsigned>(across), across_magic, across_shift};
    const Tiles rows = {static_cast<unsigned>(down), down_magic, down_shift};
    const unsigned row = columns.divide(blockIdx.x), n = rows.divide(row);
    const int left = (blockIdx.x - row * columns.count) * kTile, top = (row - n * rows.count) * kTile;
    const Picture<T> picture = {in + n * in_n, in_y, in_x, in_c, height, width, channels};
    make_luma(tile, picture, layout, left, top);
    __syncthreads();
    const bool border = left == 0 || top == 0 || width - left < kTile + 2 || height - top < kTile + 2;
    luma_to_smooth(tile, border, left, top, height, width);
    const Levels levels = {limit * kMeasureUnit<kNorm>, threshold, range, steps, scale};
    make_sides<kNorm>(tile, levels.limit, left, top, height, width);
    __syncthreads();
    out += n * (static_cast<long long>((height - 1 >> shift) + 1) * ((width - 1 >> shift) + 1));
    smooth_to_mask<kNorm>(tile, out, levels, shift, border, left, top, height, width, whole);
}

}  // namespace bdflow
