// Linear resampling of int16 HU with a window, in one pass from the voxels to the network's grid (LENS, section VI-A).
//
// Each output is interpolated along z, then y, then x, in float32 as a + w (b - a), clipped to the window and scaled. The output is
// made band by band: a few rows of all slices, then the next rows, so that of the two input slices that an output slice lies
// between, the second is still in the cache when it becomes the first. Two input rows are blended along z once per output slice
// and kept while output rows lie between them. So voxels are read from memory once and outputs written once.
#pragma once

#include "half.hpp"
#include "isa.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#if LNSDK_X86
#include <immintrin.h>
#endif

namespace lnsdk {

struct Voxels {
    const std::int16_t* data;
    std::ptrdiff_t slice_step, row_step;  // in voxels; along x they lie side by side
};

template <class Out>
struct Grid {
    Out* data;
    std::ptrdiff_t slice_step, row_step;  // in samples; along x they lie side by side
};

// Between which voxels the outputs along an axis lie, and the weight of the second.
struct Axis {
    const std::int64_t *before, *after;
    const float* weight;
    std::size_t count;
};

struct Window {
    float low, high, scale;
};

struct BlendVoxels {
    LNSDK_INLINE static void run(const std::int16_t* a, const std::int16_t* b, float weight, std::size_t count, float* out) {
        for (std::size_t i = 0; i < count; ++i) {
            const float first = a[i], second = b[i];
            out[i] = first + weight * (second - first);
        }
    }
};

struct ConvertVoxels {
    LNSDK_INLINE static void run(const std::int16_t* voxels, std::size_t count, float* out) {
        for (std::size_t i = 0; i < count; ++i) out[i] = voxels[i];
    }
};

struct BlendLines {
    LNSDK_INLINE static void run(const float* a, const float* b, float weight, std::size_t count, float* out) {
        for (std::size_t i = 0; i < count; ++i) out[i] = a[i] + weight * (b[i] - a[i]);
    }
};

LNSDK_INLINE void store(float value, float* out) { *out = value; }
LNSDK_INLINE void store(float value, std::uint16_t* out) { *out = half_of(value); }

// The outputs of one line from the input samples at `before` and the ones that follow them.
struct InterpolateLine {
    template <class Out>
    LNSDK_INLINE static void run(const float* line, const std::int32_t* before, const float* weight, std::size_t count, Window window,
                                 Out* out) {
        for (std::size_t i = 0; i < count; ++i) {
            const float left = line[before[i]], right = line[before[i] + 1];
            const float value = left + weight[i] * (right - left);
            const float raised = value < window.low ? window.low : value;
            const float clipped = window.high < raised ? window.high : raised;
            store((clipped - window.low) * window.scale, out + i);
        }
    }
};

#if LNSDK_X86
// The same for outputs of which 16 in a row lie within 32 input samples: these are loaded and permuted, not gathered. `offset` is
// how far the sample before an output lies from that of the first of its 16.
template <class Out>
LNSDK_TARGET_AVX512 void interpolate_line_permuting(const float* line, const std::int32_t* before, const std::int32_t* offset,
                                                    const float* weight, std::size_t count, Window window, Out* out) {
    const __m512 low = _mm512_set1_ps(window.low), high = _mm512_set1_ps(window.high), scale = _mm512_set1_ps(window.scale);
    for (std::size_t i = 0; i < count; i += 16) {
        const __mmask16 lanes = count - i < 16 ? static_cast<__mmask16>((1u << (count - i)) - 1) : 0xffff;
        const float* base = line + before[i];
        const __m512i index = _mm512_maskz_loadu_epi32(lanes, offset + i);
        const __m512 first = _mm512_loadu_ps(base), second = _mm512_loadu_ps(base + 16);
        const __m512 left = _mm512_permutex2var_ps(first, index, second);
        const __m512 right = _mm512_permutex2var_ps(first, _mm512_add_epi32(index, _mm512_set1_epi32(1)), second);
        const __m512 step = _mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, weight + i), _mm512_sub_ps(right, left));
        const __m512 clipped = _mm512_maskz_min_ps(lanes, _mm512_maskz_max_ps(lanes, _mm512_add_ps(left, step), low), high);
        const __m512 level = _mm512_mul_ps(_mm512_sub_ps(clipped, low), scale);
        if constexpr (sizeof(Out) == sizeof(float))
            _mm512_mask_storeu_ps(out + i, lanes, level);
        else
            _mm256_mask_storeu_epi16(out + i, lanes,
                                     _mm512_maskz_cvtps_ph(lanes, level, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
}
#endif

// Resamples rows of all slices of the output.
template <class Out>
class Resampler {
public:
    Resampler(Voxels voxels, Axis z, Axis y, Axis x, Window window)
        : voxels_(voxels), z_(z), y_(y), x_(x), window_(window), first_(x.before[0]), before_(x.count), offset_(x.count) {
        for (std::size_t i = 0; i < x.count; ++i) {
            before_[i] = static_cast<std::int32_t>(x.before[i] - first_);
            offset_[i] = before_[i] - before_[i / lanes * lanes];
        }
        width_ = x.after[x.count - 1] - first_ + 1;
        // Vectors read past the last sample; after it, at weight 0, lies a sample that must only be finite.
        for (Line* line : {&upper_, &lower_, &line_}) line->assign(width_ / lanes + 3, Vector{});
#if LNSDK_X86
        permutes_ = chosen_isa() == Isa::avx512 && *std::max_element(offset_.begin(), offset_.end()) + 1 < 2 * static_cast<std::int32_t>(lanes);
#endif
    }

    void operator()(std::size_t first_row, std::size_t end_row, Grid<Out> grid) {
        for (std::size_t band = first_row; band < end_row; band += band_rows)
            for (std::size_t k = 0; k < z_.count; ++k) {
                upper_row_ = lower_row_ = none;
                const std::size_t end = std::min(end_row, band + band_rows);
                for (std::size_t j = band; j < end; ++j) {
                    Out* out = grid.data + static_cast<std::ptrdiff_t>(k) * grid.slice_step +
                               static_cast<std::ptrdiff_t>(j) * grid.row_step;
                    if (j + 1 < end) prefetch<true>(out + grid.row_step, x_.count);
                    blend(k, j);
                    interpolate(out);
                }
            }
    }

private:
    static constexpr std::size_t lanes = 16;
    static constexpr std::size_t band_rows = 128;  // of which the input rows of two slices fit the second-level cache
    static constexpr std::int64_t none = -1;

    struct alignas(64) Vector {  // no load or store of one crosses a cache line
        float values[lanes];
    };
    using Line = std::vector<Vector>;
    static float* begin(Line& line) { return line.front().values; }

    // The input line at output slice k and output row j, in line_.
    void blend(std::size_t k, std::size_t j) {
        if (y_.before[j] == lower_row_) std::swap(upper_, lower_), std::swap(upper_row_, lower_row_);
        fetch(k, y_.before[j], upper_, upper_row_);
        fetch(k, y_.after[j], lower_, lower_row_);
        dispatch<BlendLines>(begin(upper_), begin(lower_), y_.weight[j], width_, begin(line_));
    }

    // Input row y, blended along z, unless it is there already.
    void fetch(std::size_t k, std::int64_t y, Line& line, std::int64_t& held) {
        if (held == y) return;
        held = y;
        const std::int16_t* rows = voxels_.data + y * voxels_.row_step + first_;
        const std::int64_t next = z_.after[std::min(k + 1, z_.count - 1)];
        if (next != z_.after[k]) prefetch<false>(rows + next * voxels_.slice_step, width_);
        const std::int16_t* row = rows + z_.before[k] * voxels_.slice_step;
        if (z_.weight[k] == 0)
            dispatch<ConvertVoxels>(row, width_, begin(line));
        else
            dispatch<BlendVoxels>(row, rows + z_.after[k] * voxels_.slice_step, z_.weight[k], width_, begin(line));
    }

    // Asks for a row of the slice, or of the output, that comes next: processors do not foresee either.
    template <bool FOR_WRITING, class T>
    static void prefetch(const T* row, std::size_t count) {
        constexpr std::size_t cache_line = 64 / sizeof(T);
        for (std::size_t i = 0; i < count; i += cache_line) LNSDK_PREFETCH(row + i, FOR_WRITING);
    }

    void interpolate(Out* out) {
#if LNSDK_X86
        if (permutes_) return interpolate_line_permuting(begin(line_), before_.data(), offset_.data(), x_.weight, x_.count, window_, out);
#endif
        dispatch<InterpolateLine>(begin(line_), before_.data(), x_.weight, x_.count, window_, out);
    }

    Voxels voxels_;
    Axis z_, y_, x_;
    Window window_;
    std::int64_t first_;
    std::size_t width_;
    std::vector<std::int32_t> before_, offset_;
    Line upper_, lower_, line_;
    std::int64_t upper_row_ = none, lower_row_ = none;
    bool permutes_ = false;
};

}  // namespace lnsdk
