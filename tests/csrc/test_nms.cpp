#include "check.hpp"
#include "nms.hpp"
#include "tiles.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

using namespace lnsdk;

namespace {

constexpr double THRESHOLDS[] = {0, 0.05, 1.0 / 3, 0.5, 0.7, 1};

template <class S>
std::vector<Position> by_score(const check::Exact<S>& scores) {
    std::vector<Position> order(scores.size());
    std::iota(order.begin(), order.end(), Position{0});
    std::stable_sort(order.begin(), order.end(), [&](Position a, Position b) { return scores[a] > scores[b]; });
    return order;
}

// The definition: each box against all that are kept before it.
template <class T, int D, class S>
std::vector<Position> kept_by_definition(const check::Exact<Box<T, D>>& boxes, const check::Exact<S>& scores,
                                         const check::Exact<std::int64_t>& groups, double iou_threshold, Selection selection) {
    std::vector<Position> kept;
    for (const Position i : by_score(scores)) {
        if (scores[i] < static_cast<S>(selection.lowest_score)) continue;
        const bool suppressed = std::any_of(kept.begin(), kept.end(), [&](Position other) {
            return groups[other] == groups[i] && static_cast<double>(check::iou_of(boxes[other], boxes[i])) > iou_threshold;
        });
        if (!suppressed) kept.push_back(i);
    }
    kept.resize(std::min(kept.size(), selection.most));
    return kept;
}

template <class T, int D, class S>
void nms_is_the_definition(check::Boxes how, std::size_t count) {
    const check::Case described(std::to_string(D) + "D " + (sizeof(T) == 4 ? "float" : "double") + ", " + check::name_of(how) +
                                ", " + std::to_string(count));
    check::Random random(count);
    const check::Exact<Box<T, D>> boxes(check::boxes_of<T, D>(how, count, random));
    const check::Exact<S> scores(check::scores_of<S>(count, random));
    check::Exact<std::int64_t> alike(count), groups(count);
    for (std::size_t i = 0; i < count; ++i) alike[i] = 0, groups[i] = random.integer(-2, 2) * (std::int64_t{1} << 40);
    for (const double iou_threshold : THRESHOLDS) {
        const check::Case threshold("threshold " + std::to_string(iou_threshold));
        const Selection everything, some{0.25, count / 5}, nothing{0.5, 0};
        for (const Selection& selection : {everything, some, nothing}) {
            const auto kept = nms(boxes.data(), scores.data(), count, iou_threshold, selection);
            CHECK(kept == kept_by_definition(boxes, scores, alike, iou_threshold, selection));
            const auto in_groups = batched_nms(boxes.data(), scores.data(), groups.data(), count, iou_threshold, selection);
            CHECK(in_groups == kept_by_definition(boxes, scores, groups, iou_threshold, selection));
            check::digest(kept);
            check::digest(in_groups);
        }
    }
}

template <class T, int D, class S>
void nms_of_all_boxes() {
    for (const check::Boxes how : check::ALL_BOXES)
        for (const std::size_t count : {0, 1, 2, 15, 16, 17, 64, 65, 300}) nms_is_the_definition<T, D, S>(how, count);
    for (const check::Boxes how : {check::Boxes::uniform, check::Boxes::clustered, check::Boxes::tied})
        nms_is_the_definition<T, D, S>(how, check::sized(1000));
}

// Whether the boxes that are near one hold all that overlap it above the threshold, and each box is where it is said to be.
template <class T, int D>
void tiles_find_all_overlaps(check::Boxes how, std::size_t count, double iou_threshold) {
    const check::Case described(std::to_string(D) + "D " + (sizeof(T) == 4 ? "float" : "double") + ", " + check::name_of(how) +
                                ", " + std::to_string(count) + ", threshold " + std::to_string(iou_threshold));
    check::Random random(count);
    const auto boxes = check::boxes_of<T, D>(how, count, random);
    std::vector<Position> members;
    for (std::size_t i = count; i-- > 0;)  // in any order
        if (has_size(boxes[i])) members.push_back(static_cast<Position>(i));
    Tiles<T, D> tiles;
    tiles.assign(boxes.data(), members, iou_threshold);
    bool in_place = true;
    for (std::size_t i = 0; i < members.size(); ++i)
        in_place = in_place && tiles.block_of(i).members[tiles.lane_of(i)] == members[i];
    CHECK(in_place);

    std::vector<char> is_near(count);
    bool complete = true;
    for (const Position member : members) {
        std::fill(is_near.begin(), is_near.end(), 0);
        tiles.around(boxes[member], [&](const Block<T, D>* begin, const Block<T, D>* end) {
            for (const Block<T, D>* block = begin; block != end; ++block)
                for (int lane = 0; lane < LANES; ++lane)
                    if (block->size[lane] > 0) is_near[block->members[lane]] = 1;
        });
        for (const Position other : members)
            complete = complete &&
                       (is_near[other] || !(static_cast<double>(check::iou_of(boxes[member], boxes[other])) > iou_threshold));
    }
    CHECK(complete);
}

}  // namespace

TEST(nms_float_2d) { nms_of_all_boxes<float, 2, float>(); }
TEST(nms_float_3d) { nms_of_all_boxes<float, 3, double>(); }
TEST(nms_double_2d) { nms_of_all_boxes<double, 2, float>(); }
TEST(nms_double_3d) { nms_of_all_boxes<double, 3, double>(); }

TEST(nms_of_infinite_scores) {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const std::vector<Box<float, 2>> boxes = {{{0, 0}, {2, 1}}, {{0, 0}, {2, 1}}, {{5, 5}, {6, 6}}, {{5, 5}, {6, 6}}};
    const std::vector<float> scores = {-infinity, infinity, 0.0f, -0.0f};
    CHECK((nms(boxes.data(), scores.data(), 4, 0.5) == std::vector<Position>{1, 2}));
    CHECK((nms(boxes.data(), scores.data(), 4, 1.0) == std::vector<Position>{1, 2, 3, 0}));
}

// float(1/3) lies above 1/3, so that the same two boxes are on different sides of the threshold in float and in double.
TEST(nms_compares_with_a_threshold_in_double) {
    const std::vector<Box<float, 2>> narrow = {{{0, 0}, {2, 1}}, {{1, 0}, {3, 1}}};
    const std::vector<Box<double, 2>> wide = {{{0, 0}, {2, 1}}, {{1, 0}, {3, 1}}};
    const std::vector<float> scores = {1, 0.5f};
    CHECK(nms(narrow.data(), scores.data(), 2, 1.0 / 3).size() == 1);
    CHECK(nms(wide.data(), scores.data(), 2, 1.0 / 3).size() == 2);
}

TEST(tiles) {
    for (const check::Boxes how : check::ALL_BOXES)
        for (const std::size_t count : {1, 64, 65, 400})
            for (const double iou_threshold : THRESHOLDS) {
                tiles_find_all_overlaps<float, 2>(how, count, iou_threshold);
                tiles_find_all_overlaps<float, 3>(how, count, iou_threshold);
                tiles_find_all_overlaps<double, 2>(how, count, iou_threshold);
                tiles_find_all_overlaps<double, 3>(how, count, iou_threshold);
            }
}
