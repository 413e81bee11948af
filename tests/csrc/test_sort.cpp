#include "check.hpp"
#include "sort.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

using namespace lnsdk;

namespace {

// `different`: how many keys there are; 0 for any.
template <class Key>
void sorts_as_the_standard_library(std::size_t count, Key different) {
    const check::Case described(std::to_string(8 * sizeof(Key)) + " bits, " + std::to_string(count) + " items, " +
                                std::to_string(different) + " keys");
    check::Random random(count + different);
    std::vector<Keyed<Key>> items(count), spare;
    for (std::size_t i = 0; i < count; ++i) {
        const Key key = static_cast<Key>(random.bits());
        items[i] = {different == 0 ? key : static_cast<Key>(key % different * (~Key{0} / different)), static_cast<Position>(i)};
    }
    std::vector<Keyed<Key>> expected = items;
    std::stable_sort(expected.begin(), expected.end(), [](const Keyed<Key>& a, const Keyed<Key>& b) { return a.key < b.key; });
    sort_by_key(items, spare);
    CHECK(items.size() == count);
    bool alike = true;
    for (std::size_t i = 0; i < count; ++i)
        alike = alike && items[i].key == expected[i].key && items[i].position == expected[i].position;
    CHECK(alike);
}

template <class T>
void keys_ascend_with_the_numbers() {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    std::vector<T> numbers = {-infinity,
                              std::numeric_limits<T>::lowest(),
                              T(-1.5),
                              T(-1),
                              -std::numeric_limits<T>::min(),
                              -std::numeric_limits<T>::denorm_min(),
                              T(-0.0),
                              T(0),
                              std::numeric_limits<T>::denorm_min(),
                              std::numeric_limits<T>::min(),
                              T(1),
                              std::nextafter(T(1), T(2)),
                              T(1e30),
                              infinity};
    check::Random random(1);
    for (int i = 0; i < 300; ++i) numbers.push_back(static_cast<T>(random.uniform(-1e6, 1e6)));
    for (const T a : numbers)
        for (const T b : numbers) {
            CHECK((a < b) == (ascending_key(a) < ascending_key(b)));
            CHECK((a == b) == (ascending_key(a) == ascending_key(b)));
        }
    if constexpr (sizeof(T) == 4)
        for (const T number : numbers) CHECK(from_key(ascending_key(number)) == number);
}

}  // namespace

TEST(sort_is_stable) {
    for (const std::size_t count : {0, 1, 2, 100, 511, 512, 513, 5000})  // 512 and more are sorted by their digits
        for (const int different : {0, 1, 2, 7, 300}) {
            sorts_as_the_standard_library<std::uint32_t>(count, static_cast<std::uint32_t>(different));
            sorts_as_the_standard_library<std::uint64_t>(count, static_cast<std::uint64_t>(different));
        }
}

TEST(sort_keys) {
    keys_ascend_with_the_numbers<float>();
    keys_ascend_with_the_numbers<double>();
}
