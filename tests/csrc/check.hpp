// What the tests of the kernels share: tests that run on every instruction set, checks that name what failed, memory whose ends
// are watched, and numbers that are the same on every machine.
//
// A TEST adds its results to a digest. The digest must not depend on the instruction set, and main prints it, so that runs on
// different processors can be compared to the last bit.
#pragma once

#include "isa.hpp"
#include "overlap.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

namespace check {

// ---- tests and checks ---------------------------------------------------------------------------------------------------

struct Test {
    Test(const char* name, void (*run)());
};

// Says where a check failed, and in which case; the test goes on.
void fail(const char* file, int line, const char* expression);

// Adds bytes to the digest of the test that runs.
void digest(const void* bytes, std::size_t count);

template <class T>
void digest(const std::vector<T>& values) {
    static_assert(std::has_unique_object_representations_v<T> || std::is_floating_point_v<T>, "padding has no fixed value");
    digest(values.data(), values.size() * sizeof(T));
}

// Describes the case that is tried for as long as it lives; failures name it.
class Case {
public:
    explicit Case(std::string words);
    ~Case();
    Case(const Case&) = delete;
    Case& operator=(const Case&) = delete;
};

// A quarter of a size when main is told to be quick.
std::size_t sized(std::size_t size);

#define TEST(name)                                                  \
    static void test_##name();                                      \
    static const check::Test registered_##name{#name, test_##name}; \
    static void test_##name()

#define CHECK(condition) ((condition) ? void() : check::fail(__FILE__, __LINE__, #condition))

// ---- memory -------------------------------------------------------------------------------------------------------------

// Heap memory of exactly `count` elements. AddressSanitizer stops whoever reads or writes beyond it; without the sanitizer,
// fences on both sides show what was written beyond it.
template <class T>
class Exact {
public:
    explicit Exact(std::size_t count) : count_(count), bytes_(new unsigned char[2 * fence + count * sizeof(T)]) {
        std::memset(bytes_.get(), mark, 2 * fence + count * sizeof(T));
    }
    explicit Exact(const std::vector<T>& values) : Exact(values.size()) {
        if (count_ > 0) std::memcpy(data(), values.data(), count_ * sizeof(T));
    }
    ~Exact() {
        const unsigned char* after = bytes_.get() + fence + count_ * sizeof(T);
        for (std::size_t i = 0; i < fence; ++i) CHECK(bytes_[i] == mark && after[i] == mark);
    }
    Exact(const Exact&) = delete;
    Exact& operator=(const Exact&) = delete;

    T* data() { return reinterpret_cast<T*>(bytes_.get() + fence); }
    const T* data() const { return reinterpret_cast<const T*>(bytes_.get() + fence); }
    std::size_t size() const { return count_; }
    T& operator[](std::size_t i) { return data()[i]; }
    const T& operator[](std::size_t i) const { return data()[i]; }
    std::vector<T> values() const { return {data(), data() + count_}; }

private:
#if defined(__SANITIZE_ADDRESS__)
    static constexpr std::size_t fence = 0;
#else
    static constexpr std::size_t fence = 128;  // a multiple of every alignment; wider than a vector
#endif
    static constexpr unsigned char mark = 0xa5;

    std::size_t count_;
    std::unique_ptr<unsigned char[]> bytes_;
};

template <class T>
bool same_bits(const T* a, const T* b, std::size_t count) {
    return count == 0 || std::memcmp(a, b, count * sizeof(T)) == 0;
}

// ---- numbers ------------------------------------------------------------------------------------------------------------

// splitmix64; the distributions of the standard library differ between libraries.
class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed) {}

    std::uint64_t bits() {
        std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        return z ^ z >> 31;
    }

    // first..last, both included.
    std::int64_t integer(std::int64_t first, std::int64_t last) {
        return first + static_cast<std::int64_t>(bits() % static_cast<std::uint64_t>(last - first + 1));
    }
    std::size_t index(std::size_t count) { return static_cast<std::size_t>(bits() % count); }
    double uniform(double low, double high) { return low + (high - low) * (static_cast<double>(bits() >> 11) * 0x1p-53); }

private:
    std::uint64_t state_;
};

// ---- boxes --------------------------------------------------------------------------------------------------------------

// How boxes lie; the names say what is hard about them.
enum class Boxes { uniform, clustered, tied, degenerate, infinite, all_sizes, tiny, far_apart };
constexpr Boxes ALL_BOXES[] = {Boxes::uniform,  Boxes::clustered, Boxes::tied, Boxes::degenerate,
                               Boxes::infinite, Boxes::all_sizes, Boxes::tiny, Boxes::far_apart};
const char* name_of(Boxes how);

// Whether all corners are finite and in order, and every side is above 0.
constexpr bool is_valid(Boxes how) { return how != Boxes::infinite && how != Boxes::degenerate; }

template <class T, int D>
std::vector<lnsdk::Box<T, D>> boxes_of(Boxes how, std::size_t count, Random& random);

// Two digits, so that many scores are equal.
template <class T>
std::vector<T> scores_of(std::size_t count, Random& random);

// The definition, in the type of the corners; a box of NaN or infinite size overlaps by NaN or 0, which is above no threshold.
template <class T, int D>
T iou_of(const lnsdk::Box<T, D>& a, const lnsdk::Box<T, D>& b) {
    T shared = 1, size_a = 1, size_b = 1;
    for (int axis = 0; axis < D; ++axis) {
        const T extent = std::min(a.high[axis], b.high[axis]) - std::max(a.low[axis], b.low[axis]);
        shared *= extent > 0 ? extent : T(0);
        size_a *= a.high[axis] - a.low[axis];
        size_b *= b.high[axis] - b.low[axis];
    }
    return shared > 0 ? shared / (size_a + size_b - shared) : T(0);
}

}  // namespace check
