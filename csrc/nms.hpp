// Greedy non-maximum suppression: from the best score down, a box is kept unless a kept box overlaps it too much.
//
// A box is suppressed when its intersection over union with a kept box is strictly above the threshold. The overlap is computed
// in the type of the boxes and compared as a double; equal scores keep their order. This is torchvision's definition, index for
// index. Each kept box marks those it suppresses among its neighbours only (tiles.hpp), so the time grows with the number of
// boxes and of neighbours, not with the number of pairs.
#pragma once

#include "isa.hpp"
#include "overlap.hpp"
#include "sort.hpp"
#include "tiles.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <vector>

namespace lnsdk {

// What may be kept: boxes with at least this score, and at most so many of them.
struct Selection {
    double lowest_score = -std::numeric_limits<double>::infinity();
    std::size_t most = std::numeric_limits<std::size_t>::max();
};

// Positions by falling score, ties by the lowest position, without those below the lowest score.
template <class S>
std::vector<Position> order_by_score(const S* scores, std::size_t count, double lowest_score) {
    using Key = decltype(ascending_key(S()));
    std::vector<Keyed<Key>> items, spare;
    items.reserve(count);
    for (std::size_t i = 0; i < count; ++i)
        if (scores[i] >= static_cast<S>(lowest_score)) items.push_back({ascending_key(-scores[i]), static_cast<Position>(i)});
    sort_by_key(items, spare);
    std::vector<Position> order(items.size());
    std::transform(items.begin(), items.end(), order.begin(), [](const Keyed<Key>& item) { return item.position; });
    return order;
}

// Marks the boxes of a run of blocks that one box overlaps by more than the limit.
struct Suppress {
    template <class T, int D>
    LNSDK_INLINE static void run(Block<T, D>* block, Block<T, D>* end, Box<T, D> box, T size, T limit) {
        for (; block != end; ++block) {
            const Comparison<T, D> comparison{*block, box, size};
            for (int lane = 0; lane < LANES; ++lane) block->suppressed[lane] |= comparison.iou(lane) > limit;
        }
    }
};

// Finds the kept boxes among some of all boxes. Memory is used again from call to call.
template <class T, int D>
class Suppressor {
public:
    Suppressor(const Box<T, D>* boxes, double iou_threshold) : boxes_(boxes), iou_threshold_(iou_threshold) {}

    // Appends the kept ones of the boxes at `order`, which come by falling score, and stops at the most wanted.
    void operator()(const std::vector<Position>& order, std::size_t most, std::vector<Position>& kept) {
        sized_.clear();
        std::copy_if(order.begin(), order.end(), std::back_inserter(sized_), [this](Position i) { return has_size(boxes_[i]); });
        tiles_.assign(boxes_, sized_, iou_threshold_);
        const T limit = limit_of<T>(iou_threshold_);
        std::size_t rank = 0;  // among the boxes with a size; the others neither suppress nor are suppressed
        for (auto next = order.begin(); next != order.end() && most > 0; ++next) {
            if (rank < sized_.size() && sized_[rank] == *next) {
                const bool suppressed = tiles_.block_of(rank).suppressed[tiles_.lane_of(rank)];
                ++rank;
                if (suppressed) continue;
                suppress_neighbours(boxes_[*next], limit);
            }
            kept.push_back(*next);
            --most;
        }
    }

private:
    void suppress_neighbours(const Box<T, D>& box, T limit) {
        const T size = size_of(box);
        tiles_.around(box, [&](Block<T, D>* begin, Block<T, D>* end) { dispatch<Suppress>(begin, end, box, size, limit); });
    }

    const Box<T, D>* boxes_;
    double iou_threshold_;
    std::vector<Position> sized_;
    Tiles<T, D> tiles_;
};

// Positions of the kept boxes by falling score.
template <class T, int D, class S>
std::vector<Position> nms(const Box<T, D>* boxes, const S* scores, std::size_t count, double iou_threshold,
                          Selection selection = {}) {
    std::vector<Position> kept;
    Suppressor<T, D>(boxes, iou_threshold)(order_by_score(scores, count, selection.lowest_score), selection.most, kept);
    return kept;
}

// The same with boxes suppressed only by boxes of their own group.
template <class T, int D, class S>
std::vector<Position> batched_nms(const Box<T, D>* boxes, const S* scores, const std::int64_t* groups, std::size_t count,
                                  double iou_threshold, Selection selection = {}) {
    const std::vector<Position> order = order_by_score(scores, count, selection.lowest_score);
    std::vector<Keyed<std::uint64_t>> by_group(order.size()), spare;  // each group's ranks in `order`
    for (Position rank = 0; rank < order.size(); ++rank) by_group[rank] = {static_cast<std::uint64_t>(groups[order[rank]]), rank};
    sort_by_key(by_group, spare);

    std::vector<char> is_kept(count, 0);
    std::vector<Position> members, kept;
    Suppressor<T, D> suppress(boxes, iou_threshold);
    for (std::size_t begin = 0, end; begin < by_group.size(); begin = end) {
        members.clear();
        kept.clear();
        for (end = begin; end < by_group.size() && by_group[end].key == by_group[begin].key; ++end)
            members.push_back(order[by_group[end].position]);
        suppress(members, selection.most, kept);
        for (const Position position : kept) is_kept[position] = 1;
    }
    kept.clear();
    for (const Position position : order)
        if (is_kept[position] && kept.size() < selection.most) kept.push_back(position);
    return kept;
}

}  // namespace lnsdk
