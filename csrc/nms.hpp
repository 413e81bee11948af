// Greedy non-maximum suppression: from the best score down, a box is kept unless a kept box overlaps it too much.
//
// A box is suppressed when its intersection over union with a kept box is strictly above the threshold. The overlap is computed
// in the type of the boxes and compared as a double; equal scores keep their order. This is torchvision's definition, index for
// index. Each candidate is compared with the kept boxes only, so memory grows with what is kept, never with all pairs.
#pragma once

#include "overlap.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <unordered_map>
#include <vector>

namespace lnsdk {

// Indices by falling score, ties by the lowest index.
template <class S>
std::vector<std::int64_t> order_by_score(const S* scores, std::size_t count) {
    std::vector<std::int64_t> order(count);
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::stable_sort(order.begin(), order.end(), [scores](std::int64_t a, std::int64_t b) { return scores[a] > scores[b]; });
    return order;
}

template <class T, int D>
class KeptBoxes {
public:
    // Keeps the box and returns true, unless a box kept before suppresses it.
    bool keep(const Box<T, D>& box, double iou_threshold) {
        const T size = size_of(box);
        for (const Entry& kept : entries_) {
            const T shared = intersection_of(kept.box, box);
            if (shared > 0 && shared / (kept.size + size - shared) > iou_threshold) return false;
        }
        entries_.push_back({box, size});
        return true;
    }

private:
    struct Entry {
        Box<T, D> box;
        T size;
    };
    std::vector<Entry> entries_;
};

// Indices of the kept boxes by falling score.
template <class T, int D>
std::vector<std::int64_t> nms(const Box<T, D>* boxes, const double* scores, std::size_t count, double iou_threshold) {
    KeptBoxes<T, D> kept;
    std::vector<std::int64_t> indices;
    for (const std::int64_t index : order_by_score(scores, count))
        if (kept.keep(boxes[index], iou_threshold)) indices.push_back(index);
    return indices;
}

// The same with boxes suppressed only by boxes of their own group.
template <class T, int D>
std::vector<std::int64_t> batched_nms(const Box<T, D>* boxes, const double* scores, const std::int64_t* groups,
                                      std::size_t count, double iou_threshold) {
    std::unordered_map<std::int64_t, KeptBoxes<T, D>> kept;
    std::vector<std::int64_t> indices;
    for (const std::int64_t index : order_by_score(scores, count))
        if (kept[groups[index]].keep(boxes[index], iou_threshold)) indices.push_back(index);
    return indices;
}

}  // namespace lnsdk
