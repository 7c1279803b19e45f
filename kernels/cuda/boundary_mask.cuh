// The boundary-aware mask in one launch: luma, blur, Sobel, magnitude, suppression, threshold, levels, cell maximum.
//
// Integer arithmetic throughout; every bit is that of `boundary_mask_reference`. A block makes 64 x 64 pixels: stage 1
// the luma of 72 x 72 pixels, stage 2 its 5x5 blur over 68 x 68, stage 3 the gradient's measure (|gx|+|gy|, or
// gx^2+gy^2) over 66 x 66 and for candidates the direction of their gradient, stage 4 suppression and levels. All but
// the last is four pixels to a thread and four bytes to a 32-bit word. Words lie at columns -4, 0, 4, ... of the tile.
//
// Bytes per pixel through memory: RGB uint8 3 in and 1 out (float16 6 in; a magnitude 4 out; cells 1/cell^2 out).
// A block reads a halo of 4 pixels, 1.27 times its own, which its neighbours read at the same time: L2 serves that.
#pragma once

#include "boundary_luma.cuh"

namespace bdflow {

struct Levels {
    unsigned limit;                 // edges have an entry, with or without a direction, above limit
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

// Calls visit(x, y, inner x, inner y) for every place of the tile and its halo of `margin` that touches the image from
// outside, with the nearest pixel of the image. Right and bottom are the first column and row outside.
template <typename Visit>
__device__ __forceinline__ void for_each_outside(int margin, int left, int top, int right, int bottom, Visit visit) {
    static_assert(kMaskThreads >= kTile + 4, "one thread per place of a side");
    const int end = kTile + margin, i = static_cast<int>(threadIdx.x) - margin;
    if (i >= end) return;
    const int x = min(max(i, -left), right - 1), y = min(max(i, -top), bottom - 1);
    if (top == 0) visit(i, -1, x, 0);
    if (bottom < end) visit(i, bottom, x, bottom - 1);
    if ((top == 0 && i == -1) || (bottom < end && i == bottom)) return;     // corners belong to the rows
    if (left == 0) visit(-1, i, 0, y);
    if (right < end) visit(right, i, right - 1, y);
}

struct Gradient {
    int x, y;
};

// The scale of a gradient such that its measure is 2^kShift times the measure, where products make that free.
template <int kNorm>
constexpr int kScale = kNorm == 1 ? 1 : 1 << kShift / 2;

// Sobel from three rows of signed bytes whose first (kFirst = 0) or second (1) is the left neighbour.
template <int kNorm, int kFirst>
__device__ __forceinline__ Gradient sobel(int upper, int own, int lower) {
    constexpr int s = kScale<kNorm>;
    constexpr auto weights = [](int a, int b, int c) {
        return static_cast<int>(((a & 255u) | (b & 255u) << 8 | (c & 255u) << 16) << 8 * kFirst);
    };
    constexpr int across = weights(-s, 0, s), twice = weights(-2 * s, 0, 2 * s);
    constexpr int up = weights(-s, -2 * s, -s), down = weights(s, 2 * s, s);
    return {__dp4a(lower, across, __dp4a(own, twice, __dp4a(upper, across, 0))),
            __dp4a(lower, down, __dp4a(upper, up, 0))};
}

// 2^kShift times the measure.
template <int kNorm>
__device__ __forceinline__ unsigned measure_of(const Gradient& g) {
    return kNorm == 1 ? abs(g.x) + abs(g.y) << kShift : g.x * g.x + g.y * g.y;
}

// The distance in the measure tile to the two neighbours that a pixel is compared with, and whether they are straight.
__device__ __forceinline__ unsigned direction_of(const Gradient& g) {
    const unsigned x = abs(g.x), y = static_cast<unsigned>(abs(g.y)) << 15, low = x * kTan;
    unsigned direction = (g.x ^ g.y) < 0 ? 4 * (kMeasureStride - 1) : 4 * (kMeasureStride + 1);
    if (y > low + (x << 16)) direction = kStraight | 4 * kMeasureStride;
    if (y < low) direction = kStraight | 4;
    return direction;
}

struct Windows {
    int left, right;    // the pixels -1 to 2 and 1 to 4 of a word's neighbourhood
};

__device__ __forceinline__ Windows windows_of(const unsigned* word) {
    return {static_cast<int>(__byte_perm(word[-1], word[0], 0x6543)),
            static_cast<int>(__byte_perm(word[0], word[1], 0x4321))};
}

// Stage 3 within the tile: each thread goes down one column of words with a window of three rows. The four pixels of a
// word get their directions if one of them is a candidate.
template <int kNorm>
__device__ __forceinline__ void make_measure(MaskTile& tile, unsigned limit) {
    constexpr int run = kTile * kWords / kMaskThreads;
    const int column = threadIdx.x % kWords, first = threadIdx.x / kWords * run;
    const unsigned* source = &tile.smooth[first + 1][column + 1];
    unsigned* target = &tile.measure[first + 1][4 * column + 4];
    Windows upper = windows_of(source), own = windows_of(source + kSmoothStride);
#pragma unroll 4
    for (int i = 0; i < run; ++i) {
        const Windows lower = windows_of(source + (i + 2) * kSmoothStride);
        const Gradient g[4] = {sobel<kNorm, 0>(upper.left, own.left, lower.left),
                               sobel<kNorm, 1>(upper.left, own.left, lower.left),
                               sobel<kNorm, 0>(upper.right, own.right, lower.right),
                               sobel<kNorm, 1>(upper.right, own.right, lower.right)};
        Pack<unsigned, 4> entries;
#pragma unroll
        for (int j = 0; j < 4; ++j) entries.value[j] = measure_of<kNorm>(g[j]);
        if (max(max(entries.value[0], entries.value[1]), max(entries.value[2], entries.value[3])) > limit) {
#pragma unroll
            for (int j = 0; j < 4; ++j) entries.value[j] |= direction_of(g[j]);
        }
        store(target + i * kMeasureStride, entries);
        upper = own;
        own = lower;
    }
}

// Stage 3 on the ring of pixels around the tile, which are neighbours only and need no direction.
template <int kNorm>
__device__ __forceinline__ void make_ring(MaskTile& tile) {
    auto make = [&](int x, int y) {
        const int byte = x + 3;     // of the left neighbour
        const unsigned* word = &tile.smooth[y + 1][byte >> 2];
        int rows[3];
#pragma unroll
        for (int j = 0; j < 3; ++j, word += kSmoothStride) rows[j] = __funnelshift_r(word[0], word[1], 8 * (byte & 3));
        tile.measure[y + 1][x + 4] = measure_of<kNorm>(sobel<kNorm, 0>(rows[0], rows[1], rows[2]));
    };
    static_assert(kMaskThreads == 2 * kTile, "one thread per pixel of two sides");
    const int i = threadIdx.x, along = i % kTile, far = i < kTile ? -1 : kTile;
    make(along, far);
    make(far, along);
    if (i < 4) make(i % 2 ? -1 : kTile, i / 2 ? -1 : kTile);
}

// 1 + the number of j in 1 ... steps - 1 with steps * magnitude >= steps * threshold + j * range: a float's estimate,
// at most one off, corrected in whole numbers.
template <int kNorm>
__device__ __forceinline__ unsigned level_of(unsigned measure, const Levels& levels) {
    const unsigned steps = levels.steps, base = steps * levels.threshold, range = levels.range;
    const unsigned long long reached = static_cast<unsigned long long>(kNorm == 1 ? steps : steps * steps) * measure;
    auto reaches = [&](unsigned j) {
        const unsigned long long bound = base + j * range;
        return reached >= (kNorm == 1 ? bound : bound * bound);
    };
    const float value = static_cast<float>(measure), magnitude = kNorm == 1 ? value : __fsqrt_rn(value);
    const float estimate = (magnitude - levels.threshold) * levels.scale;
    unsigned j = static_cast<unsigned>(min(max(estimate, 0.0f), static_cast<float>(steps - 1)));
    if (j + 1 < steps && reaches(j + 1)) ++j;
    else if (j > 0 && !reaches(j)) --j;
    return 1 + j;
}

// The entries of a word's four pixels, in an order that starts at another one in each of a warp's four rows: its lanes
// then read from 32 memory banks instead of 8.
struct Entries {
    const unsigned* word;
    const unsigned* turned[4];
    int turn;

    __device__ __forceinline__ Entries(const unsigned* first, int turn) : word(first), turn(turn) {
#pragma unroll
        for (int j = 0; j < 4; ++j) turned[j] = first + (j + turn & 3);
    }

    __device__ __forceinline__ void move(int rows) {
        word += rows * kMeasureStride;
#pragma unroll
        for (int j = 0; j < 4; ++j) turned[j] += rows * kMeasureStride;
    }
};

__device__ __forceinline__ unsigned at(const unsigned* entry, int bytes) {
    return *reinterpret_cast<const unsigned*>(reinterpret_cast<const char*>(entry) + bytes);
}

// Which of a word's four pixels are edges, as four bytes of 0 or 1: their measure exceeds limit and the one
// neighbour's and, in a straight direction, is no less than the other's, else exceeds it too.
__device__ __forceinline__ unsigned edges_of(const Entries& entries, unsigned limit) {
    if ((*entries.turned[0] & kDirection) == 0) return 0;
    unsigned flags = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        const unsigned* own = entries.turned[j];
        const unsigned value = *own, measure = value & ~kDirection;
        const int distance = value & kStraight - 1;
        const unsigned past = (value + kStraight) & ~kDirection;     // the next greater measure where straight
        if (value > limit & at(own, -distance) < measure & at(own, distance) < past) flags |= 1u << 8 * j;
    }
    return __funnelshift_l(flags, flags, 8 * entries.turn);
}

// Of a word's four pixels, from their edges.
template <int kNorm>
__device__ __forceinline__ unsigned levels_of(const unsigned* entry, unsigned edges, const Levels& levels) {
    if (levels.steps == 1 || edges == 0) return edges;
    unsigned word = 0;
#pragma unroll 1
    for (int j = 0; j < 4; ++j)
        if (edges >> 8 * j & 1) word |= level_of<kNorm>(entry[j] >> kShift, levels) << 8 * j;
    return word;
}

template <int kNorm>
__device__ __forceinline__ Pack<float, 4> magnitudes_of(const unsigned* entry, unsigned edges) {
    Pack<float, 4> result = {};
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        const float measure = static_cast<float>(entry[j] >> kShift);
        if (edges >> 8 * j & 1) result.value[j] = kNorm == 1 ? measure : __fsqrt_rn(measure);
    }
    return result;
}

// A warp makes 8 words of 4 rows at a time in stage 4: threads start at this column and row, and go down 8 times.
struct Place {
    int column, row, turn;
};

__device__ __forceinline__ Place place() {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, turn = lane / 8;
    return {warp % 2 * 8 + lane % 8, warp / 2 * (kTile / 2) + turn, turn};
}

template <typename Out>
__device__ __forceinline__ void store_some(Out* address, const Pack<Out, 4>& four, int count) {
#pragma unroll
    for (int j = 0; j < 4; ++j)
        if (j < count) address[j] = four.value[j];
}

// Stage 4 into memory; out is one image's. whole: words may be stored at once, rows hold whole words.
template <int kNorm, typename Out>
__device__ __forceinline__ void write_pixels(const MaskTile& tile, Out* out, const Levels& levels, int left, int top,
                                             int height, int width, bool whole) {
    const Place start = place();
    const int x = left + 4 * start.column, room = width - x;
    if (room <= 0) return;
    const long long step = 4ll * width;
    Entries entries(&tile.measure[start.row + 1][4 * start.column + 4], start.turn);
    out += static_cast<long long>(top + start.row) * width + x;
#pragma unroll 1
    for (int rows = min(kTile / 2, height - top - start.row); rows > 0; rows -= 4, out += step, entries.move(4)) {
        const unsigned edges = edges_of(entries, levels.limit);
        if constexpr (sizeof(Out) == 4) {
            const Pack<float, 4> four = magnitudes_of<kNorm>(entries.word, edges);
            if (whole) store(out, four);
            else store_some(out, four, room);
        } else {
            const unsigned four = levels_of<kNorm>(entries.word, edges, levels);
            if (whole) *reinterpret_cast<unsigned*>(out) = four;
            else store_some(out, *reinterpret_cast<const Pack<Out, 4>*>(&four), room);
        }
    }
}

// Stage 4 with cells of 2^shift pixels a side: the maximum of each of the tile's; out is one image's.
template <int kNorm>
__device__ __forceinline__ void write_cells(MaskTile& tile, unsigned char* out, const Levels& levels, int shift,
                                            int left, int top, int height, int width) {
    const Place start = place();
    const int room = width - left - 4 * start.column;
    const unsigned inside = room >= 4 ? 0xffffffffu : room > 0 ? (1u << 8 * room) - 1 : 0;
    Entries entries(&tile.measure[start.row + 1][4 * start.column + 4], start.turn);
#pragma unroll 1
    for (int row = start.row; row < start.row + kTile / 2; row += 4, entries.move(4)) {
        const unsigned edges = edges_of(entries, levels.limit) & (top + row < height ? inside : 0);
        tile.level[row][start.column] = levels_of<kNorm>(entries.word, edges, levels);
    }
    __syncthreads();
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

// Stages 2 and 3. Outside the image the blur continues its edge, and the measure is 0.
template <int kNorm>
__device__ __forceinline__ void luma_to_measure(MaskTile& tile, unsigned limit, int left, int top, int height,
                                                int width) {
    const int right = width - left, bottom = height - top;
    const bool border = left == 0 || top == 0 || right < kTile + 2 || bottom < kTile + 2;
    make_smooth(tile);
    __syncthreads();
    if (border) {
        unsigned char* bytes = reinterpret_cast<unsigned char*>(tile.smooth);
        auto at = [](int x, int y) { return (y + 2) * 4 * kSmoothStride + x + 4; };
        for_each_outside(2, left, top, right, bottom, [&](int x, int y, int inner_x, int inner_y) {
            bytes[at(x, y)] = bytes[at(inner_x, inner_y)];
        });
        __syncthreads();
    }
    make_measure<kNorm>(tile, limit);
    make_ring<kNorm>(tile);
    __syncthreads();
    if (border) {
        for_each_outside(1, left, top, right, bottom,
                         [&](int x, int y, int, int) { tile.measure[y + 1][x + 4] &= kDirection; });
        __syncthreads();
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
    const Levels levels = {static_cast<unsigned>(limit) << kShift | kDirection, threshold, range, steps, scale};
    luma_to_measure<kNorm>(tile, levels.limit, left, top, height, width);
    out += n * (static_cast<long long>((height - 1 >> shift) + 1) * ((width - 1 >> shift) + 1));
    if constexpr (sizeof(Out) == 1) {
        if (shift == 0) write_pixels<kNorm>(tile, out, levels, left, top, height, width, whole);
        else write_cells<kNorm>(tile, out, levels, shift, left, top, height, width);
    } else {
        write_pixels<kNorm>(tile, out, levels, left, top, height, width, whole);
    }
}

}  // namespace bdflow
