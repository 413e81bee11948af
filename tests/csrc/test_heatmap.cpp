#include "check.hpp"
#include "heatmap.hpp"

#include <cmath>

using namespace lnsdk;

namespace {

struct Size {
    std::size_t rows, columns;
};

// Whole votes have sums without rounding, so that the order of summing does not matter.
void votes_are_summed(Size votes, std::size_t patch, std::size_t stride, Size map, bool normalize, bool whole) {
    const check::Case described(std::to_string(votes.rows) + " x " + std::to_string(votes.columns) + " windows of " +
                                std::to_string(patch) + " every " + std::to_string(stride) + " on " + std::to_string(map.rows) +
                                " x " + std::to_string(map.columns) + (normalize ? ", normalized" : "") +
                                (whole ? ", whole votes" : ""));
    check::Random random(patch + stride);
    check::Exact<float> values(votes.rows * votes.columns);
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = whole ? static_cast<float>(random.integer(-100, 100)) : static_cast<float>(random.uniform(0, 1));

    std::vector<double> sums(map.rows * map.columns);
    std::vector<int> covering(sums.size());
    for (std::size_t i = 0; i < votes.rows; ++i)
        for (std::size_t j = 0; j < votes.columns; ++j)
            for (std::size_t y = i * stride; y < std::min(i * stride + patch, map.rows); ++y)
                for (std::size_t x = j * stride; x < std::min(j * stride + patch, map.columns); ++x) {
                    sums[y * map.columns + x] += values[i * votes.columns + j];
                    ++covering[y * map.columns + x];
                }
    const double scale = 0.3;
    for (const bool streaming : {false, true}) {
        check::Exact<float> at_once(sums.size()), parts(sums.size());
        const Votes all{values.data(), votes.rows, votes.columns, patch, stride, scale};
        vote_rows(all, 0, map.rows, map.columns, normalize, streaming, at_once.data());
        for (std::size_t first = 0, rows; first < map.rows; first += rows) {  // as several threads do
            rows = std::min<std::size_t>(5, map.rows - first);
            vote_rows(all, first, rows, map.columns, normalize, streaming, parts.data() + first * map.columns);
        }
        CHECK(check::same_bits(at_once.data(), parts.data(), sums.size()));
        bool alike = true;
        for (std::size_t i = 0; i < sums.size(); ++i) {
            const double mean = covering[i] == 0 ? 0.0 : sums[i] / covering[i];
            const float expected = static_cast<float>(normalize ? mean : sums[i] * scale);
            const float allowed = whole ? 0.0f : 1e-6f * expected;
            alike = alike && std::abs(at_once[i] - expected) <= allowed;
        }
        CHECK(alike);
        check::digest(at_once.values());
    }
}

}  // namespace

TEST(votes) {
    for (const std::size_t patch : {1, 3, 7, 8, 20})
        for (const std::size_t stride : {1, 2, 4, 9})
            for (const bool normalize : {false, true}) {
                votes_are_summed({5, 7}, patch, stride, {23, 31}, normalize, true);
                votes_are_summed({12, 9}, patch, stride, {17, 50}, normalize, false);
                votes_are_summed({1, 1}, patch, stride, {4, 1}, normalize, true);
                votes_are_summed({0, 3}, patch, stride, {6, 6}, normalize, true);
                votes_are_summed({3, 0}, patch, stride, {6, 6}, normalize, true);
                votes_are_summed({3, 3}, patch, stride, {0, 6}, normalize, true);
                votes_are_summed({3, 3}, patch, stride, {6, 0}, normalize, true);
            }
}
