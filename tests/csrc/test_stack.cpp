#include "check.hpp"
#include "stack.hpp"

#include <algorithm>
#include <limits>
#include <set>
#include <tuple>

using namespace lnsdk;

namespace {

using Members = std::vector<std::size_t>;

// The pair that joins first, as long as there is one: higher overlap, higher score, lower box, lower predecessor.
std::vector<Members> tracklets_by_definition(const check::Exact<Box<float, 2>>& boxes, const check::Exact<float>& scores,
                                             const check::Exact<std::int64_t>& slices, double iou_threshold) {
    std::vector<Members> tracklets;
    for (const std::int64_t slice : std::set<std::int64_t>(slices.data(), slices.data() + slices.size())) {
        std::vector<std::size_t> current, open;  // boxes of this slice; tracklets that end in the slice before
        for (std::size_t i = 0; i < boxes.size(); ++i)
            if (slices[i] == slice) current.push_back(i);
        for (std::size_t i = 0; i < tracklets.size(); ++i)
            if (slices[tracklets[i].back()] == slice - 1) open.push_back(i);
        for (;;) {
            std::vector<std::tuple<float, float, std::size_t, std::size_t, std::size_t>> pairs;
            for (const std::size_t box : current)
                for (const std::size_t tracklet : open) {
                    const std::size_t predecessor = tracklets[tracklet].back();
                    const float overlap = check::iou_of(boxes[box], boxes[predecessor]);
                    if (static_cast<double>(overlap) > iou_threshold)
                        pairs.emplace_back(-overlap, -scores[box], box, predecessor, tracklet);
                }
            if (pairs.empty()) break;
            const auto best = *std::min_element(pairs.begin(), pairs.end());
            tracklets[std::get<4>(best)].push_back(std::get<2>(best));
            current.erase(std::find(current.begin(), current.end(), std::get<2>(best)));
            open.erase(std::find(open.begin(), open.end(), std::get<4>(best)));
        }
        for (const std::size_t box : current) tracklets.push_back({box});
    }
    const auto highest = [&](const Members& members) {
        float score = scores[members[0]];
        for (const std::size_t member : members) score = std::max(score, scores[member]);
        return score;
    };
    std::sort(tracklets.begin(), tracklets.end(), [&](const Members& a, const Members& b) {
        const auto rank = [&](const Members& each) {
            return std::pair(-highest(each), *std::min_element(each.begin(), each.end()));
        };
        return rank(a) < rank(b);
    });
    return tracklets;
}

void stacks_as_defined(const std::vector<Box<float, 2>>& all, std::int64_t depth, double iou_threshold, bool in_order,
                       bool zero) {
    const std::size_t count = all.size();
    const check::Case described(std::to_string(count) + " boxes, threshold " + std::to_string(iou_threshold) +
                                (in_order ? ", in order" : "") + (zero ? ", without scores" : ""));
    check::Random random(count);
    const check::Exact<Box<float, 2>> boxes(all);
    check::Exact<float> scores(zero ? std::vector<float>(count, 0.0f) : check::scores_of<float>(count, random));
    check::Exact<std::int64_t> slices(count);
    for (std::size_t i = 0; i < count; ++i) slices[i] = random.integer(-2, depth);
    if (in_order) std::sort(slices.data(), slices.data() + count);

    const StackedBoxes stacked = stack_boxes(boxes.data(), scores.data(), slices.data(), count, iou_threshold);
    const std::vector<Members> expected = tracklets_by_definition(boxes, scores, slices, iou_threshold);
    CHECK(stacked.boxes.size() == expected.size() && stacked.scores.size() == expected.size() &&
          stacked.members.size() == count);
    bool alike = stacked.boxes.size() == expected.size();
    for (std::size_t row = 0; alike && row < expected.size(); ++row) {
        double weight = 0, sums[4] = {};
        float score = 0;
        for (const std::size_t i : expected[row]) weight += scores[i];
        const bool equally = weight == 0;
        if (equally) weight = static_cast<double>(expected[row].size());
        for (const std::size_t i : expected[row]) {
            const float corners[4] = {boxes[i].low[0], boxes[i].low[1], boxes[i].high[0], boxes[i].high[1]};
            for (int corner = 0; corner < 4; ++corner) sums[corner] += (equally ? 1.0 : scores[i]) * corners[corner];
            score = std::max(score, scores[i]);
            alike = alike && stacked.members[i] == static_cast<std::int64_t>(row);
        }
        const Box<float, 3>& box = stacked.boxes[row];
        for (int axis = 0; axis < 2; ++axis)
            alike = alike && box.low[axis] == static_cast<float>(sums[axis] / weight) &&
                    box.high[axis] == static_cast<float>(sums[2 + axis] / weight);
        alike = alike && box.low[2] == static_cast<float>(static_cast<double>(slices[expected[row].front()]) - 0.5) &&
                box.high[2] == static_cast<float>(static_cast<double>(slices[expected[row].back()]) + 0.5) &&
                stacked.scores[row] == score;
    }
    CHECK(alike);
    check::digest(stacked.scores);
    check::digest(stacked.members);
    for (const Box<float, 3>& box : stacked.boxes)
        check::digest(box.low, sizeof(box.low)), check::digest(box.high, sizeof(box.high));
}

}  // namespace

TEST(stack_boxes) {
    for (const check::Boxes how : check::ALL_BOXES) {
        if (!check::is_valid(how)) continue;
        const check::Case described(check::name_of(how));
        for (const std::size_t count : {0, 1, 2, 40, 200})
            for (const double iou_threshold : {0.0, 1.0 / 3, 0.5, 1.0}) {
                check::Random random(count);
                const auto boxes = check::boxes_of<float, 2>(how, count, random);
                stacks_as_defined(boxes, 9, iou_threshold, false, false);
                stacks_as_defined(boxes, 9, iou_threshold, true, true);
            }
    }
    check::Random random(0);  // so many boxes in a slice that neighbours are sought in tiles
    stacks_as_defined(check::boxes_of<float, 2>(check::Boxes::clustered, check::sized(600), random), 1, 0.3, false, false);
}

// The first and the last slice that there can be.
TEST(stack_boxes_of_extreme_slices) {
    const std::vector<Box<float, 2>> boxes(4, Box<float, 2>{{0, 0}, {4, 4}});
    const std::vector<float> scores(4, 0.5f);
    constexpr std::int64_t first = std::numeric_limits<std::int64_t>::min(), last = std::numeric_limits<std::int64_t>::max();
    const std::vector<std::int64_t> slices = {last, first, last - 1, first + 1};
    const StackedBoxes stacked = stack_boxes(boxes.data(), scores.data(), slices.data(), 4, 0.5);
    CHECK((stacked.members == std::vector<std::int64_t>{0, 1, 0, 1}));
}
