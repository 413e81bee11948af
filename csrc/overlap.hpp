// How much axis-aligned boxes share: intersection over union, and intersection over the first box's own size.
//
// A box is its low corner and its high corner, x first: x1, y1, (z1), x2, y2, (z2), continuous coordinates without any "+ 1".
// Sizes and intersections are products over x, y, (z), in this order and in the type of the coordinates: the order fixes the
// rounding, and with it what lies exactly at a threshold.
#pragma once

#include "isa.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace lnsdk {

template <class T, int D>
struct Box {
    T low[D];
    T high[D];
};

template <class T, int D>
LNSDK_INLINE T size_of(const Box<T, D>& box) {
    T size = box.high[0] - box.low[0];
    for (int axis = 1; axis < D; ++axis) size *= box.high[axis] - box.low[axis];
    return size;
}

// The length that two intervals share, 0 when they do not meet.
template <class T>
LNSDK_INLINE T shared_extent(T low_a, T high_a, T low_b, T high_b) {
    const T low = low_a < low_b ? low_b : low_a;
    const T high = high_b < high_a ? high_b : high_a;
    const T extent = high - low;
    return extent > 0 ? extent : T(0);
}

// Boxes with the same corner of all of them side by side, so that a row of the matrix is computed in vectors.
template <class T, int D>
class Columns {
public:
    Columns(const Box<T, D>* boxes, std::size_t count) : values_((2 * D + 1) * count), count_(count) {
        for (std::size_t i = 0; i < count; ++i) {
            for (int axis = 0; axis < D; ++axis) {
                values_[axis * count + i] = boxes[i].low[axis];
                values_[(D + axis) * count + i] = boxes[i].high[axis];
            }
            values_[2 * D * count + i] = size_of(boxes[i]);
        }
    }

    // Lowest and highest corner along an axis, and size, of the boxes from `first` on.
    const T* low(int axis, std::size_t first) const { return &values_[axis * count_ + first]; }
    const T* high(int axis, std::size_t first) const { return &values_[(D + axis) * count_ + first]; }
    const T* size(std::size_t first) const { return &values_[2 * D * count_ + first]; }

private:
    std::vector<T> values_;
    std::size_t count_;
};

enum class Denominator { union_of_both, size_of_a };

template <Denominator DENOMINATOR>
struct OverlapRow {
    template <class T, int D>
    LNSDK_INLINE static void run(Box<T, D> a, const Columns<T, D>* columns, std::size_t first, std::size_t count, T* out) {
        const T size_a = size_of(a);
        const T *low[D], *high[D], *size = columns->size(first);
        for (int axis = 0; axis < D; ++axis) low[axis] = columns->low(axis, first), high[axis] = columns->high(axis, first);
        for (std::size_t j = 0; j < count; ++j) {
            T shared = 1;
            for (int axis = 0; axis < D; ++axis) shared *= shared_extent(a.low[axis], a.high[axis], low[axis][j], high[axis][j]);
            const T whole = DENOMINATOR == Denominator::size_of_a ? size_a : size_a + size[j] - shared;
            out[j] = shared > 0 ? shared / whole : T(0);
        }
    }
};

// Intersection over the denominator, row-major (count_a, count_b). Boxes that do not overlap have 0, whatever their size.
template <Denominator DENOMINATOR, class T, int D>
void overlap_matrix(const Box<T, D>* a, std::size_t count_a, const Box<T, D>* b, std::size_t count_b, T* out) {
    constexpr std::size_t width = 1024;  // columns that stay in the first-level cache while the rows pass
    const Columns<T, D> columns(b, count_b);
    for (std::size_t first = 0; first < count_b; first += width)
        for (std::size_t i = 0; i < count_a; ++i)
            dispatch<OverlapRow<DENOMINATOR>>(a[i], &columns, first, std::min(width, count_b - first), out + i * count_b + first);
}

}  // namespace lnsdk
