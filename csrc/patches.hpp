// Windows of a uint8 image as a normalised float32 batch: channels apart, value x scale + shift.
#pragma once

#include "isa.hpp"
#include "stream.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#if LNSDK_X86
#include <immintrin.h>
#endif

namespace lnsdk {

struct Image {
    const std::uint8_t* data;
    std::ptrdiff_t row_step;  // in bytes; the pixels of a row lie side by side, and the channels of a pixel
};

// Where the channels of a row of pixels go, and what they are multiplied by and shifted by.
struct Planes {
    float* out;
    std::size_t step;  // from channel to channel
    const float *scale, *shift;
};

template <int CHANNELS>
struct SplitRow {
    LNSDK_INLINE static void run(const std::uint8_t* pixels, std::size_t count, Planes planes) {
        for (int channel = 0; channel < CHANNELS; ++channel) {
            float* target = planes.out + channel * planes.step;
            const float scale = planes.scale[channel], shift = planes.shift[channel];
            for (std::size_t x = 0; x < count; ++x) target[x] = static_cast<float>(pixels[x * CHANNELS + channel]) * scale + shift;
        }
    }
};

#if LNSDK_X86
// The same for 3 or 4 channels and at least 8 pixels: compilers find no shuffle for this, so it is spelled out. Eight pixels are
// two loads of four; one shuffle per channel widens its bytes to 32 bits. The last eight may overlap those before.
template <int CHANNELS>
LNSDK_TARGET_AVX2 void split_row_shuffling(const std::uint8_t* pixels, std::size_t count, Planes planes) {
    constexpr int second = 8 * CHANNELS - 16;  // offset of a load that ends with the eighth pixel, and begins inside the fifth
    __m256i widen[CHANNELS];
    for (int channel = 0; channel < CHANNELS; ++channel) {
        alignas(32) std::int8_t from[32];
        for (int lane = 0; lane < 8; ++lane)
            for (int byte = 0; byte < 4; ++byte)
                from[4 * lane + byte] = byte > 0 ? -1 : static_cast<std::int8_t>(lane * CHANNELS + channel - (lane < 4 ? 0 : second));
        widen[channel] = _mm256_load_si256(reinterpret_cast<const __m256i*>(from));
    }
    for (std::size_t next = 0; next < count; next += 8) {
        const std::size_t x = std::min(next, count - 8);
        const auto* source = pixels + x * CHANNELS;
        const __m256i eight = _mm256_inserti128_si256(
            _mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source))),
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + second)), 1);
        for (int channel = 0; channel < CHANNELS; ++channel) {
            const __m256 values = _mm256_cvtepi32_ps(_mm256_shuffle_epi8(eight, widen[channel]));
            const __m256 scaled = _mm256_mul_ps(values, _mm256_set1_ps(planes.scale[channel]));
            _mm256_storeu_ps(planes.out + channel * planes.step + x, _mm256_add_ps(scaled, _mm256_set1_ps(planes.shift[channel])));
        }
    }
}
#endif

template <int CHANNELS>
void split_row(const std::uint8_t* pixels, std::size_t count, Planes planes) {
#if LNSDK_X86
    if constexpr (CHANNELS > 1)
        if (chosen_isa() != Isa::baseline && count >= 8) return split_row_shuffling<CHANNELS>(pixels, count, planes);
#endif
    dispatch<SplitRow<CHANNELS>>(pixels, count, planes);
}

// Writes the windows whose first pixels are corners[2 i] (y), corners[2 i + 1] (x) as (count, CHANNELS, patch, patch).
template <int CHANNELS>
void gather_patches(const Image& image, const std::int64_t* corners, std::size_t count, std::size_t patch, const float* scale,
                    const float* shift, bool streaming, float* out) {
    const std::size_t plane = patch * patch;
    std::vector<float> window(CHANNELS * plane);
    for (std::size_t i = 0; i < count; ++i, out += window.size()) {
        const std::uint8_t* row = image.data + corners[2 * i] * image.row_step + corners[2 * i + 1] * CHANNELS;
        for (std::size_t y = 0; y < patch; ++y, row += image.row_step)
            split_row<CHANNELS>(row, patch, {window.data() + y * patch, plane, scale, shift});
        copy_out(out, window.data(), window.size() * sizeof(float), streaming);
    }
    finish_streaming();
}

}  // namespace lnsdk
