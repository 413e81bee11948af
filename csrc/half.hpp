// float16 in software: the same bits on every processor, and in vectors on all of them.
#pragma once

#include "isa.hpp"

#include <cstdint>
#include <cstring>

namespace lnsdk {

// The float16 nearest to a number from 0 to 65504, ties to even.
LNSDK_INLINE std::uint16_t half_of(float value) {
    constexpr float smallest_normal = 6.103515625e-05f;  // 2^-14
    const float shifted = value + 0.5f;                  // its last bit weighs 2^-24, as that of a subnormal float16 does
    std::uint32_t bits, subnormal;
    std::memcpy(&bits, &value, sizeof(bits));
    std::memcpy(&subnormal, &shifted, sizeof(subnormal));
    const std::uint32_t rounded = (bits + 0xfffu + (bits >> 13 & 1u) - (112u << 23)) >> 13;
    return static_cast<std::uint16_t>(value < smallest_normal ? subnormal - 0x3f000000u : rounded);
}

}  // namespace lnsdk
