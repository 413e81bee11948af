// Bindings of the kernels over boxes: suppression, overlaps, stacking.

#include "arguments.hpp"
#include "nms.hpp"
#include "overlap.hpp"
#include "stack.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace {

using lnsdk::Box;

// ---- validation ---------------------------------------------------------------------------------------------------------

void require_boxes(const py::array& boxes, const char* name, py::ssize_t columns) {
    if (boxes.ndim() != 2 || boxes.shape(1) != columns)
        throw py::value_error(std::string(name) + " must have shape (N, " + std::to_string(columns) + "), got " + shape_of(boxes));
}

// 2 or 3, by the last dimension.
int dimensions_of(const py::array& boxes, const char* name) {
    if (boxes.ndim() != 2 || (boxes.shape(1) != 4 && boxes.shape(1) != 6))
        throw py::value_error(std::string(name) + " must have shape (N, 4) or (N, 6), got " + shape_of(boxes));
    return static_cast<int>(boxes.shape(1) / 2);
}

void require_one_per_box(const py::array& values, const char* name, const py::array& boxes) {
    if (values.ndim() != 1 || values.shape(0) != boxes.shape(0))
        throw py::value_error(std::string(name) + " must have one value per box: expected shape (" + std::to_string(boxes.shape(0)) +
                              ",), got " + shape_of(values));
}

void require_threshold(double iou_threshold) {
    if (!(iou_threshold >= 0 && iou_threshold <= 1))
        throw py::value_error("iou_threshold must lie in 0..1, got " + std::string(py::str(py::float_(iou_threshold))));
}

template <class T>
void require_no_nan(const Array<T>& values, const char* name) {
    require_all(values, name, [](T value) { return value == value; }, " is NaN; drop it before the call");
}

template <class T>
void require_finite(const Array<T>& values, const char* name) {
    constexpr T largest = std::numeric_limits<T>::max();
    require_all(values, name, [](T value) { return std::abs(value) <= largest; }, " is NaN or infinite; drop it before the call");
}

template <class T>
void require_ordered_corners(const Array<T>& boxes, const char* name) {
    const std::size_t dimensions = boxes.shape(1) / 2;
    for (std::size_t i = 0; i < static_cast<std::size_t>(boxes.shape(0)); ++i)
        for (std::size_t axis = 0; axis < dimensions; ++axis) {
            const T* box = boxes.data() + i * 2 * dimensions;
            if (box[axis + dimensions] < box[axis])
                throw py::value_error(at(name, i) + " ends before it begins along " + "xyz"[axis] +
                                      "; boxes are x1, y1, (z1), x2, y2, (z2)");
        }
}

template <class T>
void require_valid_boxes(const Array<T>& boxes, const char* name) {
    require_finite(boxes, name);
    require_ordered_corners(boxes, name);
}

template <class T, int D>
const Box<T, D>* as_boxes(const Array<T>& array) {
    static_assert(sizeof(Box<T, D>) == 2 * D * sizeof(T), "rows of the array are boxes");
    return reinterpret_cast<const Box<T, D>*>(array.data());
}

Array<Index> to_indices(const std::vector<lnsdk::Position>& positions) {
    Array<Index> indices(static_cast<py::ssize_t>(positions.size()));
    std::copy(positions.begin(), positions.end(), indices.mutable_data());
    return indices;
}

// ---- kernels ------------------------------------------------------------------------------------------------------------

// What may be kept, from what Python passes: None is no limit.
lnsdk::Selection selection_of(const std::optional<double>& score_threshold, const std::optional<py::ssize_t>& max_kept) {
    lnsdk::Selection selection;
    if (score_threshold) {
        if (std::isnan(*score_threshold)) throw py::value_error("score_threshold is NaN; None keeps every score");
        selection.lowest_score = *score_threshold;
    }
    if (max_kept) {
        if (*max_kept < 0) throw py::value_error("max_kept must be 0 or more, or None, got " + std::to_string(*max_kept));
        selection.most = static_cast<std::size_t>(*max_kept);
    }
    return selection;
}

void require_countable(const py::array& boxes) {
    if (boxes.shape(0) > std::numeric_limits<std::int32_t>::max())  // places among half-filled blocks fit a Position, too
        throw py::value_error("boxes must be fewer than 2^31, got " + std::to_string(boxes.shape(0)));
}

template <class T, int D, class S>
Array<Index> nms(const Array<T>& boxes, const Array<S>& scores, double iou_threshold, std::optional<double> score_threshold,
                 std::optional<py::ssize_t> max_kept) {
    require_boxes(boxes, "boxes", 2 * D);
    require_countable(boxes);
    require_one_per_box(scores, "scores", boxes);
    require_threshold(iou_threshold);
    const lnsdk::Selection selection = selection_of(score_threshold, max_kept);
    require_no_nan(boxes, "boxes");
    require_no_nan(scores, "scores");
    std::vector<lnsdk::Position> kept;
    {
        py::gil_scoped_release released;
        kept = lnsdk::nms(as_boxes<T, D>(boxes), scores.data(), scores.size(), iou_threshold, selection);
    }
    return to_indices(kept);
}

template <class T, class S>
Array<Index> batched_nms(const Array<T>& boxes, const Array<S>& scores, const Array<Index>& groups, double iou_threshold,
                         std::optional<double> score_threshold, std::optional<py::ssize_t> max_kept) {
    const int dimensions = dimensions_of(boxes, "boxes");
    require_countable(boxes);
    require_one_per_box(scores, "scores", boxes);
    require_one_per_box(groups, "groups", boxes);
    require_threshold(iou_threshold);
    const lnsdk::Selection selection = selection_of(score_threshold, max_kept);
    require_no_nan(boxes, "boxes");
    require_no_nan(scores, "scores");
    std::vector<lnsdk::Position> kept;
    {
        py::gil_scoped_release released;
        const auto run = [&](auto* rows) {
            return lnsdk::batched_nms(rows, scores.data(), groups.data(), scores.size(), iou_threshold, selection);
        };
        kept = dimensions == 2 ? run(as_boxes<T, 2>(boxes)) : run(as_boxes<T, 3>(boxes));
    }
    return to_indices(kept);
}

// Checks the two sets of boxes of iou and iobb and returns their dimension.
template <class T>
int require_pair(const Array<T>& a, const Array<T>& b) {
    const int dimensions = dimensions_of(a, "a");
    require_boxes(b, "b", 2 * dimensions);
    require_valid_boxes(a, "a");
    require_valid_boxes(b, "b");
    return dimensions;
}

// Checks them before the work is split, so that messages hold the caller's indices.
template <class T>
void require_box_pair(const Array<T>& a, const Array<T>& b) {
    require_pair(a, b);
}

// Fills `out`, the rows of the (len(a), len(b)) matrix.
template <lnsdk::Denominator DENOMINATOR, class T>
void overlap_matrix(const Array<T>& a, const Array<T>& b, Array<T>& out) {
    const int dimensions = require_pair(a, b);
    if (out.ndim() != 2 || out.shape(0) != a.shape(0) || out.shape(1) != b.shape(0))
        throw py::value_error("out must have shape (" + std::to_string(a.shape(0)) + ", " + std::to_string(b.shape(0)) + "), got " +
                              shape_of(out));
    T* values = out.mutable_data();
    py::gil_scoped_release released;
    const auto run = [&](auto* rows, auto* columns) {
        lnsdk::overlap_matrix<DENOMINATOR>(rows, a.shape(0), columns, b.shape(0), values);
    };
    dimensions == 2 ? run(as_boxes<T, 2>(a), as_boxes<T, 2>(b)) : run(as_boxes<T, 3>(a), as_boxes<T, 3>(b));
}

void require_weights(const Array<float>& scores) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(scores.size()); ++i)
        if (scores.data()[i] < 0)
            throw py::value_error(at("scores", i) + " is negative; scores weigh the mean box, so they must be 0 or more");
}

py::tuple stack_boxes(const Array<float>& boxes, const Array<float>& scores, const Array<Index>& slices, double iou_threshold) {
    require_boxes(boxes, "boxes", 4);
    require_one_per_box(scores, "scores", boxes);
    require_countable(boxes);
    require_one_per_box(slices, "slices", boxes);
    require_threshold(iou_threshold);
    require_valid_boxes(boxes, "boxes");
    require_finite(scores, "scores");
    require_weights(scores);
    lnsdk::StackedBoxes stacked;
    {
        py::gil_scoped_release released;
        stacked = lnsdk::stack_boxes(as_boxes<float, 2>(boxes), scores.data(), slices.data(), scores.size(), iou_threshold);
    }
    Array<float> rows({static_cast<py::ssize_t>(stacked.boxes.size()), py::ssize_t{6}});
    if (!stacked.boxes.empty())
        std::memcpy(rows.mutable_data(), stacked.boxes.data(), stacked.boxes.size() * sizeof(stacked.boxes[0]));
    return py::make_tuple(rows, to_array(stacked.scores), to_array(stacked.members));
}

// ---- module -------------------------------------------------------------------------------------------------------------

template <class T, class S>
void bind_nms(py::module_& module) {
    const auto boxes = py::arg("boxes").noconvert();
    const auto scores = py::arg("scores").noconvert();
    const auto groups = py::arg("groups").noconvert();
    const auto iou_threshold = py::arg("iou_threshold");
    const auto score_threshold = py::arg("score_threshold");
    const auto max_kept = py::arg("max_kept");
    module.def("nms", &nms<T, 2, S>, boxes, scores, iou_threshold, score_threshold, max_kept);
    module.def("nms_3d", &nms<T, 3, S>, boxes, scores, iou_threshold, score_threshold, max_kept);
    module.def("batched_nms", &batched_nms<T, S>, boxes, scores, groups, iou_threshold, score_threshold, max_kept);
}

template <class T>
void bind_for_type(py::module_& module) {
    bind_nms<T, float>(module);
    bind_nms<T, double>(module);
    const auto a = py::arg("a").noconvert();
    const auto b = py::arg("b").noconvert();
    const auto out = py::arg("out").noconvert();
    module.def("require_box_pair", &require_box_pair<T>, a, b);
    module.def("iou", &overlap_matrix<lnsdk::Denominator::union_of_both, T>, a, b, out);
    module.def("iobb", &overlap_matrix<lnsdk::Denominator::size_of_a, T>, a, b, out);
}

}  // namespace

void bind_boxes(py::module_& module) {
    bind_for_type<float>(module);
    bind_for_type<double>(module);
    module.def("stack_boxes", &stack_boxes, py::arg("boxes").noconvert(), py::arg("scores").noconvert(),
               py::arg("slices").noconvert(), py::arg("iou_threshold"));
}
