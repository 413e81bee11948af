// Joins the boxes of consecutive slices into 3D boxes (LENS, section IV-C).
//
// Slices ascending. A tracklet is open while its last box lies in the slice before. Of all pairs (open tracklet, box of this
// slice) with an IoU above the threshold, the best joins first, then the best of what is left, one to one: higher IoU, then the
// box's higher score, then the box's lower index, then the lower index of the tracklet's last box. A box that joins no tracklet
// opens one. The 3D box is the score-weighted mean in x and y and runs from half a slice before the first slice to half a slice
// after the last; its score is the highest of its members. Pairs are sought among neighbours only (tiles.hpp).
#pragma once

#include "isa.hpp"
#include "overlap.hpp"
#include "sort.hpp"
#include "tiles.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <numeric>
#include <vector>

namespace lnsdk {

struct StackedBoxes {
    std::vector<Box<float, 3>> boxes;
    std::vector<float> scores;
    std::vector<std::int64_t> members;  // for each input box, its row in boxes
};

struct Candidate {
    float iou;
    float score;
    Position box;
    Position predecessor;

    bool operator<(const Candidate& other) const {
        if (iou != other.iou) return iou > other.iou;
        if (score != other.score) return score > other.score;
        return box != other.box ? box < other.box : predecessor < other.predecessor;
    }
};

struct Overlap {
    float iou;
    Position member;
};

// Appends the boxes of a run of blocks that one box overlaps by more than the limit; `count` is how many there are so far.
struct OverlapsAbove {
    template <class T, int D>
    LNSDK_INLINE static void run(const Block<T, D>* block, const Block<T, D>* end, Box<T, D> box, T size, T limit, Overlap* found,
                                 std::size_t* count) {
        for (; block != end; ++block) {
            const Comparison<T, D> comparison{*block, box, size};
            T overlaps[LANES];
            int any = 0;
            for (int lane = 0; lane < LANES; ++lane) {
                overlaps[lane] = comparison.iou(lane);
                any |= overlaps[lane] > limit;
            }
            for (int lane = 0; any && lane < LANES; ++lane) {  // without a jump that nothing predicts
                found[*count] = {overlaps[lane], block->members[lane]};
                *count += overlaps[lane] > limit;
            }
        }
    }
};

// Joins the boxes of one slice to those of the slice before. Memory is used again from slice to slice.
class Joiner {
public:
    Joiner(const Box<float, 2>* boxes, const float* scores, std::size_t count, double iou_threshold)
        : boxes_(boxes), scores_(scores), iou_threshold_(iou_threshold), is_continued_(count, 0), choices_(count, 0) {}

    // tracklet[box] = tracklet[predecessor] for each pair that joins.
    void operator()(const std::vector<Position>& previous, const std::vector<Position>& current, std::vector<std::int64_t>& tracklet) {
        collect(previous, current);
        // Where both have no other choice, order plays no part; sorting the few others is much less work.
        for (const Candidate& candidate : candidates_) ++choices_[candidate.box], ++choices_[candidate.predecessor];
        const auto contested = std::partition(candidates_.begin(), candidates_.end(), [this](const Candidate& candidate) {
            return choices_[candidate.box] == 1 && choices_[candidate.predecessor] == 1;
        });
        std::sort(contested, candidates_.end());
        for (const Candidate& candidate : candidates_) {
            choices_[candidate.box] = choices_[candidate.predecessor] = 0;
            if (tracklet[candidate.box] >= 0 || is_continued_[candidate.predecessor]) continue;
            tracklet[candidate.box] = tracklet[candidate.predecessor];
            is_continued_[candidate.predecessor] = 1;
        }
    }

private:
    void collect(const std::vector<Position>& previous, const std::vector<Position>& current) {
        candidates_.clear();
        sized_.clear();
        std::copy_if(previous.begin(), previous.end(), std::back_inserter(sized_), [&](Position i) { return has_size(boxes_[i]); });
        tiles_.assign(boxes_, sized_, iou_threshold_);
        const float limit = limit_of<float>(iou_threshold_);
        for (const Position index : current) {
            const Box<float, 2>& box = boxes_[index];
            if (!has_size(box)) continue;
            tiles_.around(box, [&](const Block<float, 2>* begin, const Block<float, 2>* end) {
                std::size_t count = 0;
                found_.resize(std::max<std::size_t>(found_.size(), (end - begin) * LANES + 1));
                dispatch<OverlapsAbove>(begin, end, box, size_of(box), limit, found_.data(), &count);
                for (std::size_t i = 0; i < count; ++i)
                    candidates_.push_back({found_[i].iou, scores_[index], index, found_[i].member});
            });
        }
    }

    const Box<float, 2>* boxes_;
    const float* scores_;
    double iou_threshold_;
    std::vector<char> is_continued_;  // boxes that have their successor
    std::vector<Position> choices_;   // of each box in the join under way
    std::vector<Position> sized_;
    std::vector<Overlap> found_;
    std::vector<Candidate> candidates_;
    Tiles<float, 2> tiles_;
};

// The tracklet of each box, numbered in the order in which they open.
inline std::vector<std::int64_t> track(const Box<float, 2>* boxes, const float* scores, const std::int64_t* slices,
                                       const std::vector<Position>& by_slice, double iou_threshold) {
    std::vector<std::int64_t> tracklet(by_slice.size(), -1);
    std::vector<Position> previous, current;
    Joiner join(boxes, scores, by_slice.size(), iou_threshold);
    std::int64_t opened = 0;
    for (std::size_t begin = 0; begin < by_slice.size();) {
        const std::int64_t slice = slices[by_slice[begin]];
        std::size_t end = begin + 1;
        while (end < by_slice.size() && slices[by_slice[end]] == slice) ++end;
        current.assign(by_slice.begin() + begin, by_slice.begin() + end);
        if (!previous.empty() && slices[previous.front()] == slice - 1) join(previous, current, tracklet);
        for (const Position box : current)
            if (tracklet[box] < 0) tracklet[box] = opened++;
        std::swap(previous, current);
        begin = end;
    }
    return tracklet;
}

// Sums over the members of one tracklet, in double so that the mean does not depend on the number of members.
struct Tracklet {
    double weighted[4] = {0, 0, 0, 0};
    double plain[4] = {0, 0, 0, 0};
    double weight = 0;
    double count = 0;
    std::int64_t first_slice = 0;
    std::int64_t last_slice = 0;
    std::int64_t first_index = 0;  // lowest input index
    float score = 0;

    void add(const Box<float, 2>& box, float box_score, std::int64_t slice, std::int64_t index) {
        const float corners[4] = {box.low[0], box.low[1], box.high[0], box.high[1]};
        for (int corner = 0; corner < 4; ++corner) {
            weighted[corner] += static_cast<double>(box_score) * corners[corner];
            plain[corner] += corners[corner];
        }
        if (count == 0) first_slice = slice;
        last_slice = slice;
        first_index = count == 0 ? index : std::min(first_index, index);
        score = count == 0 ? box_score : std::max(score, box_score);
        weight += box_score;
        count += 1;
    }

    Box<float, 3> box() const {
        const double* sums = weight > 0 ? weighted : plain;  // scores that are all zero weigh the same
        const double total = weight > 0 ? weight : count;
        return {{static_cast<float>(sums[0] / total), static_cast<float>(sums[1] / total), static_cast<float>(first_slice - 0.5)},
                {static_cast<float>(sums[2] / total), static_cast<float>(sums[3] / total), static_cast<float>(last_slice + 0.5)}};
    }
};

inline StackedBoxes stack_boxes(const Box<float, 2>* boxes, const float* scores, const std::int64_t* slices, std::size_t count,
                                double iou_threshold) {
    std::vector<Position> by_slice(count);
    std::iota(by_slice.begin(), by_slice.end(), Position{0});
    const auto earlier = [slices](Position a, Position b) { return slices[a] < slices[b]; };
    if (!std::is_sorted(by_slice.begin(), by_slice.end(), earlier)) std::stable_sort(by_slice.begin(), by_slice.end(), earlier);

    const std::vector<std::int64_t> tracklet = track(boxes, scores, slices, by_slice, iou_threshold);
    std::vector<Tracklet> tracklets(count == 0 ? 0 : *std::max_element(tracklet.begin(), tracklet.end()) + 1);
    for (const Position box : by_slice) tracklets[tracklet[box]].add(boxes[box], scores[box], slices[box], box);

    std::vector<std::int64_t> order(tracklets.size());
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::sort(order.begin(), order.end(), [&tracklets](std::int64_t a, std::int64_t b) {
        const Tracklet &first = tracklets[a], &second = tracklets[b];
        return first.score != second.score ? first.score > second.score : first.first_index < second.first_index;
    });

    StackedBoxes stacked;
    stacked.boxes.reserve(order.size());
    stacked.scores.reserve(order.size());
    stacked.members.reserve(count);
    std::vector<std::int64_t> row(tracklets.size());
    for (const std::int64_t index : order) {
        row[index] = static_cast<std::int64_t>(stacked.boxes.size());
        stacked.boxes.push_back(tracklets[index].box());
        stacked.scores.push_back(tracklets[index].score);
    }
    for (const std::int64_t index : tracklet) stacked.members.push_back(row[index]);
    return stacked;
}

}  // namespace lnsdk
