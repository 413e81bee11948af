#include "check.hpp"
#include "half.hpp"

#include <cmath>

using namespace lnsdk;

namespace {

struct ToHalf {
    LNSDK_INLINE static void run(const float* values, std::size_t count, std::uint16_t* out) {
        for (std::size_t i = 0; i < count; ++i) out[i] = half_of(values[i]);
    }
};

constexpr std::uint16_t LARGEST = 0x7bff;  // 65504

float value_of(std::uint16_t half) {
    const int exponent = half >> 10, fraction = half & 0x3ff;
    return exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                         : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
}

}  // namespace

// Every float16, the midpoint to the next one and the floats beside it: between two midpoints rounding does not change.
TEST(half_of_every_float16_and_every_midpoint) {
    std::vector<float> values;
    std::vector<std::uint16_t> expected;
    const auto add = [&](float value, std::uint16_t half) { values.push_back(value), expected.push_back(half); };
    for (std::uint16_t half = 0; half <= LARGEST; ++half) {
        add(value_of(half), half);
        if (half == LARGEST) break;
        const std::uint16_t next = half + 1, even = half % 2 == 0 ? half : next;
        const float middle = (value_of(half) + value_of(next)) / 2;  // exact
        add(std::nextafter(value_of(half), 1e9f), half);
        add(std::nextafter(middle, 0.0f), half);
        add(middle, even);
        add(std::nextafter(middle, 1e9f), next);
        add(std::nextafter(value_of(next), 0.0f), next);
    }
    check::Exact<std::uint16_t> found(values.size());
    dispatch<ToHalf>(static_cast<const float*>(values.data()), values.size(), found.data());
    CHECK(found.values() == expected);
    check::digest(found.values());
}
