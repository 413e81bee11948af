// Runs every test on every instruction set of this processor, or those whose names contain one of the arguments.
// --quick: sizes are a quarter. --digests: prints the digest of each test's results, for comparison with another processor.
// Reports to stderr and exits with 1 when a check failed.

#include "check.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <utility>

namespace check {
namespace {

struct Registered {
    const char* name;
    void (*run)();
};

// Tests register themselves before main runs, in no particular order of files.
std::vector<Registered>& registered() {
    static std::vector<Registered> tests;
    return tests;
}

struct State {
    std::string test;
    std::vector<std::string> cases;
    std::uint64_t digest = 0;
    std::size_t failures = 0;
    bool quick = false;
} state;

constexpr std::size_t SHOWN = 20;  // failures in full; the rest are counted

constexpr std::uint64_t FNV_BASIS = 0xcbf29ce484222325u, FNV_PRIME = 0x100000001b3u;

const std::pair<lnsdk::Isa, const char*> ISAS[] = {
    {lnsdk::Isa::baseline, "baseline"}, {lnsdk::Isa::avx2, "avx2"}, {lnsdk::Isa::avx512, "avx512"}};

}  // namespace

Test::Test(const char* name, void (*run)()) { registered().push_back({name, run}); }

void fail(const char* file, int line, const char* expression) {
    if (++state.failures > SHOWN) return;
    std::string where;
    for (const std::string& words : state.cases) where += (where.empty() ? "" : ", ") + words;
    std::fprintf(stderr, "FAILED %s\n  %s:%d: %s\n", state.test.c_str(), file, line, expression);
    if (!where.empty()) std::fprintf(stderr, "  case: %s\n", where.c_str());
}

void digest(const void* bytes, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
        state.digest = (state.digest ^ static_cast<const unsigned char*>(bytes)[i]) * FNV_PRIME;
}

Case::Case(std::string words) { state.cases.push_back(std::move(words)); }
Case::~Case() { state.cases.pop_back(); }

std::size_t sized(std::size_t size) { return state.quick ? size / 4 : size; }

const char* name_of(Boxes how) {
    switch (how) {
        case Boxes::uniform: return "uniform boxes";
        case Boxes::clustered: return "clustered boxes";
        case Boxes::tied: return "boxes on a coarse grid";
        case Boxes::degenerate: return "some boxes without size or inverted";
        case Boxes::infinite: return "some boxes infinite";
        case Boxes::all_sizes: return "boxes of all sizes";
        case Boxes::tiny: return "boxes of hardly any size";
        case Boxes::far_apart: return "boxes far apart";
    }
    return "";
}

template <class T, int D>
std::vector<lnsdk::Box<T, D>> boxes_of(Boxes how, std::size_t count, Random& random) {
    constexpr T infinity = std::numeric_limits<T>::infinity();
    std::vector<lnsdk::Box<T, D>> boxes(count);
    std::vector<double> places((count / 20 + 1) * D);
    for (double& place : places) place = random.uniform(0, 512);
    // D of them multiply to about the smallest number above 0, so that sizes and overlaps are a few such numbers, much rounded.
    const double unit = std::ldexp(1.0, (sizeof(T) == 4 ? -148 : -1073) / D);
    for (lnsdk::Box<T, D>& box : boxes) {
        const double* place = &places[random.index(places.size() / D) * D];
        // Sizes that differ by powers of two, down to where the product of two sides is subnormal in T.
        const double magnitude = std::ldexp(1.0, static_cast<int>(random.integer(sizeof(T) == 4 ? -70 : -520, -40)));
        for (int axis = 0; axis < D; ++axis) {
            double low = random.uniform(0, 500), extent = random.uniform(2, 60);
            if (how == Boxes::clustered || how == Boxes::degenerate || how == Boxes::infinite)
                low = place[axis] + random.uniform(-4, 4);
            if (how == Boxes::tied)
                low = static_cast<double>(random.integer(0, 8)), extent = static_cast<double>(random.integer(1, 4));
            if (how == Boxes::all_sizes) low = -magnitude * random.uniform(0.4, 0.6), extent = magnitude;
            if (how == Boxes::tiny) low = random.uniform(0, 12) * unit, extent = random.uniform(0.9, 1.5) * unit;
            box.low[axis] = static_cast<T>(low);
            box.high[axis] = static_cast<T>(low + extent);
        }
    }
    for (std::size_t i = 0; i < count; ++i) {
        lnsdk::Box<T, D>& box = boxes[i];
        const int axis = static_cast<int>(i / 3 % D);
        if (how == Boxes::degenerate && i % 3 == 0) box.high[axis] = box.low[axis];
        if (how == Boxes::degenerate && i % 7 == 0)
            for (int each = 0; each < D; ++each) std::swap(box.low[each], box.high[each]);  // in 2D its size is positive
        if (how == Boxes::infinite && i % 3 == 0) box.high[axis] = infinity;
        if (how == Boxes::infinite && i % 5 == 0) box.low[axis] = -infinity;
        if (how == Boxes::infinite && i % 11 == 0) box.low[axis] = box.high[axis] = infinity;
        if (how == Boxes::infinite && i % 4 == 0)  // finite corners, infinite size
            for (int each = 0; each < D; ++each) box.low[each] = 0, box.high[each] = std::numeric_limits<T>::max() / 2;
        if (how == Boxes::far_apart)
            for (int each = 0; each < D; ++each) {
                const T away = i == 0 ? T(1e9) : i % 2 == 0 ? T(1e6) : T(0);
                box.low[each] += away, box.high[each] += away;
            }
    }
    return boxes;
}

template <class T>
std::vector<T> scores_of(std::size_t count, Random& random) {
    std::vector<T> scores(count);
    for (T& score : scores) score = static_cast<T>(random.integer(0, 99)) / 100;
    return scores;
}

template std::vector<lnsdk::Box<float, 2>> boxes_of(Boxes, std::size_t, Random&);
template std::vector<lnsdk::Box<float, 3>> boxes_of(Boxes, std::size_t, Random&);
template std::vector<lnsdk::Box<double, 2>> boxes_of(Boxes, std::size_t, Random&);
template std::vector<lnsdk::Box<double, 3>> boxes_of(Boxes, std::size_t, Random&);
template std::vector<float> scores_of(std::size_t, Random&);
template std::vector<double> scores_of(std::size_t, Random&);

}  // namespace check

int main(int count, char** arguments) {
    using namespace check;
    std::vector<std::string> wanted;
    bool digests = false;
    for (int i = 1; i < count; ++i) {
        const std::string argument = arguments[i];
        if (argument == "--quick")
            state.quick = true;
        else if (argument == "--digests")
            digests = true;
        else
            wanted.push_back(argument);
    }
    std::vector<Registered> tests;
    for (const Registered& test : registered()) {
        const std::string name = test.name;
        const auto names_it = [&name](const std::string& part) { return name.find(part) != std::string::npos; };
        if (wanted.empty() || std::any_of(wanted.begin(), wanted.end(), names_it)) tests.push_back(test);
    }
    if (tests.empty()) return std::fprintf(stderr, "no test has such a name\n"), 2;
    std::sort(tests.begin(), tests.end(),
              [](const Registered& a, const Registered& b) { return std::strcmp(a.name, b.name) < 0; });

    std::string isas;
    for (const auto& [isa, isa_name] : ISAS)
        if (isa <= lnsdk::best_isa()) isas += (isas.empty() ? "" : ", ") + std::string(isa_name);
    for (const Registered& test : tests) {
        std::uint64_t digest_of_baseline = 0;
        for (const auto& [isa, isa_name] : ISAS) {
            if (isa > lnsdk::best_isa()) continue;
            lnsdk::chosen_isa() = isa;
            state.test = std::string(test.name) + " [" + isa_name + "]";
            state.digest = FNV_BASIS;
            test.run();
            const std::uint64_t digest_of_this = state.digest;
            if (isa == lnsdk::Isa::baseline) digest_of_baseline = digest_of_this;
            CHECK(digest_of_this == digest_of_baseline);
        }
        if (digests) std::printf("%016llx %s\n", static_cast<unsigned long long>(digest_of_baseline), test.name);
    }
    std::fprintf(stderr, "%zu tests of the kernels on %s: %zu checks failed\n", tests.size(), isas.c_str(), state.failures);
    return state.failures > 0;
}
