// How much axis-aligned boxes share: intersection over union, and intersection over the first box's own size.
//
// A box is its low corner and its high corner, x first: x1, y1, (z1), x2, y2, (z2), continuous coordinates without any "+ 1".
// Sizes and intersections are products over x, y, (z), in this order and in the type of the coordinates: the order fixes the
// rounding, and with it what lies exactly at a threshold.
#pragma once

#include <cstddef>

namespace lnsdk {

template <class T, int D>
struct Box {
    T low[D];
    T high[D];
};

template <class T, int D>
T size_of(const Box<T, D>& box) {
    T size = box.high[0] - box.low[0];
    for (int axis = 1; axis < D; ++axis) size *= box.high[axis] - box.low[axis];
    return size;
}

// The comparisons are written so that a NaN extent (infinite corners) counts as no extent, as std::max(0, extent) does.
template <class T, int D>
T intersection_of(const Box<T, D>& a, const Box<T, D>& b) {
    T shared = 1;
    for (int axis = 0; axis < D; ++axis) {
        const T low = a.low[axis] < b.low[axis] ? b.low[axis] : a.low[axis];
        const T high = b.high[axis] < a.high[axis] ? b.high[axis] : a.high[axis];
        const T extent = high - low;
        shared *= extent > 0 ? extent : T(0);
    }
    return shared;
}

// Intersection over union, row-major (count_a, count_b). Boxes that do not overlap have 0, whatever their size.
template <class T, int D>
void iou(const Box<T, D>* a, std::size_t count_a, const Box<T, D>* b, std::size_t count_b, T* out) {
    for (std::size_t i = 0; i < count_a; ++i) {
        const T size_a = size_of(a[i]);
        for (std::size_t j = 0; j < count_b; ++j) {
            const T shared = intersection_of(a[i], b[j]);
            *out++ = shared > 0 ? shared / (size_a + size_of(b[j]) - shared) : T(0);
        }
    }
}

// Intersection over the size of a's box, row-major (count_a, count_b). Boxes that do not overlap have 0, whatever their size.
template <class T, int D>
void iobb(const Box<T, D>* a, std::size_t count_a, const Box<T, D>* b, std::size_t count_b, T* out) {
    for (std::size_t i = 0; i < count_a; ++i) {
        const T size_a = size_of(a[i]);
        for (std::size_t j = 0; j < count_b; ++j) {
            const T shared = intersection_of(a[i], b[j]);
            *out++ = shared > 0 ? shared / size_a : T(0);
        }
    }
}

}  // namespace lnsdk
