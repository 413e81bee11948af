// Writes results that are too large for the caches past them: a store that bypasses the caches need not read the line first,
// which halves what memory has to move, and leaves in the caches what was there.
#pragma once

#include "isa.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if LNSDK_X86
#include <emmintrin.h>
#endif

namespace lnsdk {

// Results of this many bytes leave the caches near the cores before anyone reads them.
constexpr std::size_t STREAMED_BYTES = std::size_t{8} << 20;

// Copies `bytes` bytes; streaming, past the caches. Call finish_streaming() before another thread reads them.
inline void copy_out(void* out, const void* in, std::size_t bytes, bool streaming) {
    if (bytes == 0) return;  // then the pointers may be null, which memcpy forbids
#if LNSDK_X86
    if (streaming) {
        constexpr std::size_t line = 64;
        auto* target = static_cast<std::uint8_t*>(out);
        const auto* source = static_cast<const std::uint8_t*>(in);
        const std::size_t misaligned = reinterpret_cast<std::uintptr_t>(target) % line;
        const std::size_t head = std::min(bytes, misaligned == 0 ? 0 : line - misaligned);
        std::memcpy(target, source, head);
        for (; bytes - head >= line; bytes -= line, target += line, source += line)
            for (std::size_t i = head; i < head + line; i += sizeof(__m128i))
                _mm_stream_si128(reinterpret_cast<__m128i*>(target + i), _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i)));
        std::memcpy(target + head, source + head, bytes - head);
        return;
    }
#else
    static_cast<void>(streaming);
#endif
    std::memcpy(out, in, bytes);
}

inline void finish_streaming() {
#if LNSDK_X86
    _mm_sfence();
#endif
}

}  // namespace lnsdk
