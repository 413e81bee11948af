// Joins the boxes of consecutive slices into 3D boxes (LENS, section IV-C).
//
// Slices ascending. A tracklet is open while its last box lies in the slice before. Of all pairs (open tracklet, box of this
// slice) with an IoU above the threshold, the best joins first, then the best of what is left, one to one: higher IoU, then the
// box's higher score, then the box's lower index, then the lower index of the tracklet's last box. A box that joins no tracklet
// opens one. The 3D box is the score-weighted mean in x and y and runs from half a slice before the first slice to half a slice
// after the last; its score is the highest of its members.
#pragma once

#include "nms.hpp"
#include "overlap.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <tuple>
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
    std::int64_t box;
    std::int64_t predecessor;

    bool operator<(const Candidate& other) const {
        return std::make_tuple(-iou, -score, box, predecessor) <
               std::make_tuple(-other.iou, -other.score, other.box, other.predecessor);
    }
};

// Joins the boxes of one slice to those of the slice before: tracklet[box] = tracklet[predecessor].
inline void join(const std::vector<std::int64_t>& previous, const std::vector<std::int64_t>& current,
                 const Box<float, 2>* boxes, const float* scores, double iou_threshold, std::vector<std::int64_t>& tracklet) {
    std::vector<Candidate> candidates;
    for (const std::int64_t box : current)
        for (const std::int64_t predecessor : previous) {
            float overlap;
            iou(&boxes[box], 1, &boxes[predecessor], 1, &overlap);
            if (overlap > iou_threshold) candidates.push_back({overlap, scores[box], box, predecessor});
        }
    std::sort(candidates.begin(), candidates.end());

    std::vector<std::int64_t> continued;  // predecessors that have their successor
    for (const Candidate& candidate : candidates) {
        if (tracklet[candidate.box] >= 0) continue;
        if (std::find(continued.begin(), continued.end(), candidate.predecessor) != continued.end()) continue;
        tracklet[candidate.box] = tracklet[candidate.predecessor];
        continued.push_back(candidate.predecessor);
    }
}

// The tracklet of each box, numbered in the order in which they open.
inline std::vector<std::int64_t> track(const Box<float, 2>* boxes, const float* scores, const std::int64_t* slices,
                                       const std::vector<std::int64_t>& by_slice, double iou_threshold) {
    std::vector<std::int64_t> tracklet(by_slice.size(), -1);
    std::vector<std::int64_t> previous;
    std::int64_t opened = 0;
    for (std::size_t begin = 0; begin < by_slice.size();) {
        std::size_t end = begin + 1;
        while (end < by_slice.size() && slices[by_slice[end]] == slices[by_slice[begin]]) ++end;
        const std::vector<std::int64_t> current(by_slice.begin() + begin, by_slice.begin() + end);
        if (!previous.empty() && slices[previous.front()] == slices[current.front()] - 1)
            join(previous, current, boxes, scores, iou_threshold, tracklet);
        for (const std::int64_t box : current)
            if (tracklet[box] < 0) tracklet[box] = opened++;
        previous = current;
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
    std::vector<std::int64_t> by_slice(count);
    std::iota(by_slice.begin(), by_slice.end(), std::int64_t{0});
    std::stable_sort(by_slice.begin(), by_slice.end(), [slices](std::int64_t a, std::int64_t b) { return slices[a] < slices[b]; });

    const std::vector<std::int64_t> tracklet = track(boxes, scores, slices, by_slice, iou_threshold);
    std::vector<Tracklet> tracklets(count == 0 ? 0 : *std::max_element(tracklet.begin(), tracklet.end()) + 1);
    for (const std::int64_t box : by_slice) tracklets[tracklet[box]].add(boxes[box], scores[box], slices[box], box);

    std::vector<std::int64_t> order(tracklets.size());
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::sort(order.begin(), order.end(), [&tracklets](std::int64_t a, std::int64_t b) {
        return std::make_tuple(-tracklets[a].score, tracklets[a].first_index) <
               std::make_tuple(-tracklets[b].score, tracklets[b].first_index);
    });

    StackedBoxes stacked;
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
