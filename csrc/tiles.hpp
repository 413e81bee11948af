// Boxes sorted so that those that may overlap a given box are found without looking at all of them.
//
// Boxes with an intersection over union above t have centres near each other: along each axis their extents u and v share more
// than t (u + v) / (1 + t), so the centres are less than (u + v) (1 - t) / (2 (1 + t)) apart; and v < u / t. The boxes are cut
// by their centres into parts of equal number along the last axis, each part along the axis before, and so on; along x they end
// in blocks of 16 that are compared at once. Parts of equal number make no assumption about how boxes are spread. (As an R-tree
// packed by Sort-Tile-Recursive: Leutenegger et al., ICDE 1997.)
#pragma once

#include "isa.hpp"
#include "overlap.hpp"
#include "sort.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

namespace lnsdk {

constexpr int LANES = 16;  // boxes of a block: one AVX-512 register of float32

// Corners by axis, so that the same corner of all boxes of a block is one vector. Unused lanes hold boxes without extent.
template <class T, int D>
struct Block {
    using Flag = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;  // as wide as T, so that masks need no packing
    T low[D][LANES];
    T high[D][LANES];
    T size[LANES];
    Flag suppressed[LANES];
    Position members[LANES];
};

// One box against the boxes of a block, lane by lane.
template <class T, int D>
struct Comparison {
    const Block<T, D>& block;
    const Box<T, D>& box;
    T size;

    LNSDK_INLINE T iou(int lane) const {
        T shared = 1;
        for (int axis = 0; axis < D; ++axis)
            shared *= shared_extent(box.low[axis], box.high[axis], block.low[axis][lane], block.high[axis][lane]);
        return shared / (size + block.size[lane] - shared);
    }
};

// Whether a box can overlap any other to a positive degree: every extent is positive and its size is a positive number.
template <class T, int D>
bool has_size(const Box<T, D>& box) {
    for (int axis = 0; axis < D; ++axis)
        if (!(box.high[axis] > box.low[axis])) return false;
    const T size = size_of(box);
    return size > 0 && size <= std::numeric_limits<T>::max();
}

// The largest T that is not above the threshold: an overlap of type T is above the one exactly when it is above the other.
template <class T>
T limit_of(double threshold) {
    const T nearest = static_cast<T>(threshold);
    return static_cast<double>(nearest) > threshold ? std::nextafter(nearest, T(-1)) : nearest;
}

template <class T, int D>
class Tiles {
public:
    // Takes the boxes at `members`; each must have a size (has_size). Memory of an earlier call is used again.
    void assign(const Box<T, D>* boxes, const std::vector<Position>& members, double iou_threshold) {
        places_.resize(members.size());
        const std::size_t full = (members.size() + LANES - 1) / LANES;  // blocks, if none is left partly filled
        if (full <= FEW) {
            blocks_.assign(full, Block<T, D>{});
            for (Position i = 0; i < members.size(); ++i) fill(i, i, members[i], boxes);
            return;
        }
        measure(boxes, members, iou_threshold);
        part_.assign(members.size(), 0);
        parents_ = 1;
        const std::size_t pieces = pieces_per_axis(members.size());
        for (int axis = D - 1; axis > 0; --axis) {
            if (pieces == 1) {
                levels_[axis] = {{-infinity}, {infinity}, {0, 1}};
                continue;
            }
            sort_along(axis, boxes, members);
            cut(axis, [pieces](std::size_t count) { return (count + pieces - 1) / pieces; });
        }
        sort_along(0, boxes, members);
        cut(0, [](std::size_t) { return std::size_t{LANES}; });
        fill_blocks(boxes, members);
    }

    // Calls visit(first block, end of blocks) for runs of blocks that together hold every box that overlaps this one by more
    // than the threshold.
    template <class Visit>
    void around(const Box<T, D>& box, Visit visit) {
        if (blocks_.size() <= FEW) return visit(blocks_.data(), blocks_.data() + blocks_.size());
        float from[D], to[D];
        for (int axis = 0; axis < D; ++axis) {
            const T extent = box.high[axis] - box.low[axis];
            const T reach = (extent + std::min(largest_[axis], extent * most_)) * share_ + slack_;
            from[axis] = static_cast<float>(center_of(box, axis) - reach);
            to[axis] = static_cast<float>(center_of(box, axis) + reach);
        }
        descend<D - 1>(0, from, to, visit);
    }

    // Block and lane of the i-th of `members`.
    Block<T, D>& block_of(std::size_t i) { return blocks_[places_[i] / LANES]; }
    int lane_of(std::size_t i) const { return static_cast<int>(places_[i] % LANES); }

private:
    static constexpr std::size_t FEW = 4;  // so many blocks are compared sooner than searched
    static constexpr float infinity = std::numeric_limits<float>::infinity();

    // The parts along one axis; along x, the blocks. Centres are rounded to float, which keeps their order.
    struct Level {
        std::vector<float> low, high;    // least and greatest centre of each part
        std::vector<std::size_t> first;  // for each part of the axis after this one, its first part; one more at the end
    };

    static T center_of(const Box<T, D>& box, int axis) { return box.low[axis] / 2 + box.high[axis] / 2; }

    // Long runs along x cost little, so the other axes get fewer parts than x gets blocks.
    static std::size_t pieces_per_axis(std::size_t count) {
        const double blocks = static_cast<double>(count) / LANES;
        return std::max<std::size_t>(1, static_cast<std::size_t>(std::pow(blocks, 1.0 / D) / 2 + 0.5));
    }

    // Extents, and the constants of the reach. A slightly lower threshold and a little slack make up for rounding.
    void measure(const Box<T, D>* boxes, const std::vector<Position>& members, double iou_threshold) {
        T furthest = 0, smallest = std::numeric_limits<T>::max();
        for (T& each : largest_) each = 0;
        for (const Position member : members) {
            const Box<T, D>& box = boxes[member];
            for (int axis = 0; axis < D; ++axis) {
                largest_[axis] = std::max(largest_[axis], box.high[axis] - box.low[axis]);
                furthest = std::max({furthest, std::abs(box.low[axis]), std::abs(box.high[axis])});
            }
            smallest = std::min(smallest, size_of(box));
        }
        constexpr T epsilon = std::numeric_limits<T>::epsilon();
        const bool precise = smallest > std::numeric_limits<T>::min() / epsilon;  // else sizes are rounded beyond any bound
        const T threshold = precise ? static_cast<T>(iou_threshold * (1 - 1e-5)) : T(0);
        most_ = threshold > 0 ? 1 / threshold : std::numeric_limits<T>::infinity();
        share_ = (1 - threshold) / (2 * (1 + threshold));
        slack_ = 16 * epsilon * furthest;
    }

    // Orders the members by the part they are in, then by their centre along the axis.
    void sort_along(int axis, const Box<T, D>* boxes, const std::vector<Position>& members) {
        sorted_.resize(members.size());
        for (Position i = 0; i < members.size(); ++i)
            sorted_[i] = {ascending_key(static_cast<float>(center_of(boxes[members[i]], axis))), i};
        sort_by_key(sorted_, spare_);
        starts_.assign(parents_ + 1, 0);
        for (const Position part : part_) ++starts_[part + 1];
        for (std::size_t part = 0; part < parents_; ++part) starts_[part + 1] += starts_[part];
        if (parents_ == 1) return;
        next_ = starts_;
        spare_.resize(sorted_.size());
        for (const Keyed<std::uint32_t>& item : sorted_) spare_[next_[part_[item.position]]++] = item;
        std::swap(sorted_, spare_);
    }

    // Cuts each part, whose members are in order, into parts of length_of(its number of members).
    template <class Length>
    void cut(int axis, Length length_of) {
        Level& level = levels_[axis];
        level = {};
        for (std::size_t parent = 0; parent < parents_; ++parent) {
            level.first.push_back(level.low.size());
            const std::size_t end = starts_[parent + 1], length = length_of(end - starts_[parent]);
            for (std::size_t begin = starts_[parent]; begin < end; begin += length) {
                const std::size_t stop = std::min(end, begin + length);
                for (std::size_t i = begin; i < stop; ++i) part_[sorted_[i].position] = static_cast<Position>(level.low.size());
                level.low.push_back(from_key(sorted_[begin].key));
                level.high.push_back(from_key(sorted_[stop - 1].key));
            }
        }
        level.first.push_back(level.low.size());
        parents_ = level.low.size();
    }

    void fill_blocks(const Box<T, D>* boxes, const std::vector<Position>& members) {
        blocks_.assign(parents_, Block<T, D>{});
        Position filled = 0, block = 0;
        for (const Keyed<std::uint32_t>& item : sorted_) {
            if (part_[item.position] != block) block = part_[item.position], filled = 0;
            fill(block * LANES + filled++, item.position, members[item.position], boxes);
        }
    }

    void fill(Position place, Position i, Position member, const Box<T, D>* boxes) {
        Block<T, D>& block = blocks_[place / LANES];
        const int lane = place % LANES;
        for (int axis = 0; axis < D; ++axis) {
            block.low[axis][lane] = boxes[member].low[axis];
            block.high[axis][lane] = boxes[member].high[axis];
        }
        block.size[lane] = size_of(boxes[member]);
        block.members[lane] = member;
        places_[i] = place;
    }

    template <int AXIS, class Visit>
    void descend(std::size_t parent, const float* from, const float* to, Visit& visit) {
        const Level& level = levels_[AXIS];
        const std::size_t end = level.first[parent + 1];
        std::size_t part =
            std::lower_bound(level.high.begin() + level.first[parent], level.high.begin() + end, from[AXIS]) - level.high.begin();
        if constexpr (AXIS > 0) {
            for (; part < end && level.low[part] <= to[AXIS]; ++part) descend<AXIS - 1>(part, from, to, visit);
        } else {
            const std::size_t stop =
                std::upper_bound(level.low.begin() + part, level.low.begin() + end, to[AXIS]) - level.low.begin();
            if (part < stop) visit(blocks_.data() + part, blocks_.data() + stop);
        }
    }

    Level levels_[D];
    std::vector<Block<T, D>> blocks_;
    std::vector<Position> places_, part_;
    std::vector<Keyed<std::uint32_t>> sorted_, spare_;
    std::vector<std::size_t> starts_, next_;
    std::size_t parents_ = 1;
    T largest_[D];
    T most_, share_, slack_;
};

}  // namespace lnsdk
