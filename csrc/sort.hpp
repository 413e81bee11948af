// Stable sorting of numbers by their bits: a least-significant-digit radix sort, linear in the number of values.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace lnsdk {

// Positions in an array; kernels take fewer than 2^31 boxes, which halves what sorting moves.
using Position = std::uint32_t;

// Unsigned integers in the order of the numbers; -0 and 0 are equal, NaN has no place.
inline std::uint32_t ascending_key(float value) {
    std::uint32_t bits;
    value += 0.0f;  // -0 becomes 0
    std::memcpy(&bits, &value, sizeof(bits));
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

inline std::uint64_t ascending_key(double value) {
    std::uint64_t bits;
    value += 0.0;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits & 0x8000000000000000u ? ~bits : bits | 0x8000000000000000u;
}

// The number of a key.
inline float from_key(std::uint32_t key) {
    const std::uint32_t bits = key & 0x80000000u ? key & 0x7fffffffu : ~key;
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
}

template <class Key>
struct Keyed {
    Key key;
    Position position;
};

// Sorts items whose positions ascend by key; equal keys keep their order. `spare` is working memory.
template <class Key>
void sort_by_key(std::vector<Keyed<Key>>& items, std::vector<Keyed<Key>>& spare) {
    constexpr int digit_bits = 11, digits = (8 * sizeof(Key) + digit_bits - 1) / digit_bits;
    constexpr std::size_t values = std::size_t{1} << digit_bits;
    constexpr std::size_t few = 512;  // fewer than this are compared: the histograms below cost more
    if (items.size() < few) {
        std::sort(items.begin(), items.end(), [](const Keyed<Key>& a, const Keyed<Key>& b) {
            return a.key != b.key ? a.key < b.key : a.position < b.position;
        });
        return;
    }
    std::array<std::array<Position, values>, digits> counts{};
    for (const Keyed<Key>& item : items)
        for (int digit = 0; digit < digits; ++digit) ++counts[digit][item.key >> digit * digit_bits & (values - 1)];
    spare.resize(items.size());
    for (int digit = 0; digit < digits; ++digit) {
        std::array<Position, values>& count = counts[digit];
        const int shift = digit * digit_bits;
        if (count[items[0].key >> shift & (values - 1)] == items.size()) continue;  // all alike
        Position before = 0;
        for (Position& each : count) before += std::exchange(each, before);
        for (const Keyed<Key>& item : items) spare[count[item.key >> shift & (values - 1)]++] = item;
        std::swap(items, spare);
    }
}

}  // namespace lnsdk
