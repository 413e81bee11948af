// lnsdk._C: the kernels as Python sees them. Each binding validates, releases the GIL, runs the kernel and wraps its result.

#include "heatmap.hpp"
#include "isa.hpp"
#include "nms.hpp"
#include "overlap.hpp"
#include "patches.hpp"
#include "resample.hpp"
#include "stack.hpp"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace py = pybind11;

namespace {

using lnsdk::Box;
using Index = std::int64_t;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

// ---- validation ---------------------------------------------------------------------------------------------------------

std::string shape_of(const py::array& array) { return py::str(array.attr("shape")); }

std::string at(const char* name, std::size_t index) { return std::string(name) + "[" + std::to_string(index) + "]"; }

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

// Refuses the first value that is not usable, if there is any: all are looked at at once, then the first is searched.
template <class T, class Usable>
void require_all(const Array<T>& values, const char* name, Usable usable, const char* problem) {
    const T* data = values.data();
    const std::size_t count = values.size(), columns = values.ndim() == 2 ? values.shape(1) : 1;
    bool all = true;
    for (std::size_t i = 0; i < count; ++i) all &= usable(data[i]);
    for (std::size_t i = 0; !all && i < count; ++i)
        if (!usable(data[i])) throw py::value_error(at(name, i / columns) + problem);
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

// ---- arrays -------------------------------------------------------------------------------------------------------------

template <class T, int D>
const Box<T, D>* as_boxes(const Array<T>& array) {
    static_assert(sizeof(Box<T, D>) == 2 * D * sizeof(T), "rows of the array are boxes");
    return reinterpret_cast<const Box<T, D>*>(array.data());
}

template <class T>
Array<T> to_array(const std::vector<T>& values) {
    return Array<T>(static_cast<py::ssize_t>(values.size()), values.data());
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
    if (static_cast<std::uint64_t>(boxes.shape(0)) > std::numeric_limits<lnsdk::Position>::max())
        throw py::value_error("boxes must be fewer than 2^32, got " + std::to_string(boxes.shape(0)));
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
    std::vector<Index> kept;
    {
        py::gil_scoped_release released;
        kept = lnsdk::nms(as_boxes<T, D>(boxes), scores.data(), scores.size(), iou_threshold, selection);
    }
    return to_array(kept);
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
    std::vector<Index> kept;
    {
        py::gil_scoped_release released;
        const auto run = [&](auto* rows) {
            return lnsdk::batched_nms(rows, scores.data(), groups.data(), scores.size(), iou_threshold, selection);
        };
        kept = dimensions == 2 ? run(as_boxes<T, 2>(boxes)) : run(as_boxes<T, 3>(boxes));
    }
    return to_array(kept);
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

// What lnsdk.ops.slices computes for one axis: the voxel before, the voxel after and its weight, for each output.
using AxisArrays = std::tuple<Array<Index>, Array<Index>, Array<float>>;

lnsdk::Axis require_axis(const AxisArrays& arrays, const char* name, py::ssize_t voxels) {
    const auto& [before, after, weight] = arrays;
    if (before.ndim() != 1 || after.size() != before.size() || weight.size() != before.size() || before.size() == 0)
        throw py::value_error(std::string(name) + " must hold three arrays of the same length, at least 1");
    for (py::ssize_t i = 0; i < before.size(); ++i) {
        const Index first = before.data()[i], second = after.data()[i];
        const bool ascending = i == 0 || before.data()[i - 1] <= first;
        if (!(0 <= first && ascending && second == std::min<Index>(first + 1, voxels - 1)))
            throw py::value_error(std::string(name) + " must ascend from voxel to next voxel inside 0.." + std::to_string(voxels - 1));
    }
    return {before.data(), after.data(), weight.data(), static_cast<std::size_t>(before.size())};
}

// Steps from slice to slice and from row to row, in items; NumPy gives an axis of length 1 any stride.
template <class T>
std::pair<py::ssize_t, py::ssize_t> require_rows(const py::array_t<T, 0>& array, const char* name) {
    constexpr py::ssize_t item = sizeof(T);
    if (array.ndim() != 3 || array.strides(0) % item || array.strides(1) % item || (array.strides(2) != item && array.shape(2) > 1))
        throw py::value_error(std::string(name) + " must have shape (z, y, x), with the items of a row side by side");
    return {array.strides(0) / item, array.strides(1) / item};
}

template <class Out>
void resample_rows(const py::array_t<std::int16_t, 0>& voxels, const AxisArrays& z_axis, const AxisArrays& y_axis,
                   const AxisArrays& x_axis, std::tuple<float, float, float> levels, py::array_t<Out, 0>& out, std::size_t first_row,
                   std::size_t end_row, bool streaming) {
    const auto [slice_step, row_step] = require_rows(voxels, "voxels");
    const auto [out_slice_step, out_row_step] = require_rows(out, "out");
    const lnsdk::Axis z = require_axis(z_axis, "z_axis", voxels.shape(0)), y = require_axis(y_axis, "y_axis", voxels.shape(1)),
                      x = require_axis(x_axis, "x_axis", voxels.shape(2));
    const auto length = [&out](int axis) { return static_cast<std::size_t>(out.shape(axis)); };
    if (length(0) != z.count || length(1) != y.count || length(2) != x.count || first_row > end_row || end_row > z.count * y.count)
        throw py::value_error("out must have as many samples along z, y, x as the axes, and the rows must lie inside it");
    Out* values = out.mutable_data();
    const auto [low, high, scale] = levels;
    py::gil_scoped_release released;
    lnsdk::Resampler<Out>({voxels.data(), slice_step, row_step}, z, y, x, {low, high, scale})(first_row, end_row, streaming,
                                                                                         {values, out_slice_step, out_row_step});
}

void vote_rows(const Array<float>& votes, std::size_t patch, std::size_t stride, bool normalize, Array<float>& out, std::size_t first_row,
               bool streaming) {
    if (votes.ndim() != 2 || out.ndim() != 2)
        throw py::value_error("votes and out must have two dimensions, got " + shape_of(votes) + " and " + shape_of(out));
    if (patch == 0 || stride == 0) throw py::value_error("patch and stride must be above 0");
    float* values = out.mutable_data();
    const std::size_t rows = out.shape(0), width = out.shape(1);
    const lnsdk::Votes all{votes.data(), static_cast<std::size_t>(votes.shape(0)), static_cast<std::size_t>(votes.shape(1)), patch, stride};
    py::gil_scoped_release released;
    lnsdk::vote_rows(all, first_row, rows, width, normalize, streaming, values);
}

void require_corners(const Array<Index>& corners, const py::array& image, py::ssize_t patch) {
    const Index last_y = image.shape(0) - patch, last_x = image.shape(1) - patch;
    for (py::ssize_t i = 0; i < corners.shape(0); ++i) {
        const Index y = corners.data()[2 * i], x = corners.data()[2 * i + 1];
        if (y < 0 || x < 0 || y > last_y || x > last_x)
            throw py::value_error(at("corners", i) + " is (" + std::to_string(y) + ", " + std::to_string(x) + "), but windows of " +
                                  std::to_string(patch) + " pixels that lie inside the image begin in 0.." + std::to_string(last_y) +
                                  ", 0.." + std::to_string(last_x));
    }
}

void gather_patches(const py::array_t<std::uint8_t, 0>& image, const Array<Index>& corners, const Array<float>& scale,
                    const Array<float>& shift, Array<float>& out, bool streaming) {
    // NumPy gives an axis of length 1 any stride.
    if (image.ndim() != 3 || (image.shape(1) > 1 && image.strides(1) != image.shape(2)) || (image.shape(2) > 1 && image.strides(2) != 1))
        throw py::value_error("image must have shape (y, x, channels), with the pixels of a row side by side");
    const py::ssize_t channels = image.shape(2);
    if (corners.ndim() != 2 || corners.shape(1) != 2 || scale.size() != channels || shift.size() != channels || out.ndim() != 4 ||
        out.shape(0) != corners.shape(0) || out.shape(1) != channels || out.shape(2) != out.shape(3))
        throw py::value_error("corners must have shape (N, 2), scale and shift (channels,) and out (N, channels, patch, patch)");
    require_corners(corners, image, out.shape(2));
    const lnsdk::Image pixels{image.data(), image.strides(0)};
    float* values = out.mutable_data();
    const std::size_t count = corners.shape(0), patch = out.shape(2);
    const auto run = [&](auto gather) {
        py::gil_scoped_release released;
        gather(pixels, corners.data(), count, patch, scale.data(), shift.data(), streaming, values);
    };
    if (channels == 1)
        run(lnsdk::gather_patches<1>);
    else if (channels == 3)
        run(lnsdk::gather_patches<3>);
    else if (channels == 4)
        run(lnsdk::gather_patches<4>);
    else
        throw py::value_error("image must have 1, 3 or 4 channels, got " + std::to_string(channels));
}

// ---- instruction sets ---------------------------------------------------------------------------------------------------

const std::vector<std::pair<lnsdk::Isa, std::string>> ISA_NAMES = {
    {lnsdk::Isa::baseline, "baseline"}, {lnsdk::Isa::avx2, "avx2"}, {lnsdk::Isa::avx512, "avx512"}};

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const auto& [isa, name] : ISA_NAMES)
        if (isa <= lnsdk::best_isa()) names.push_back(name);
    return names;
}

std::string instruction_set() { return ISA_NAMES[static_cast<int>(lnsdk::chosen_isa().load())].second; }

void use_instruction_set(const std::string& wanted) {
    for (const auto& [isa, name] : ISA_NAMES)
        if (name == wanted && isa <= lnsdk::best_isa()) {
            lnsdk::chosen_isa() = isa;
            return;
        }
    throw py::value_error("this processor has no instruction set \"" + wanted + "\"");
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
    module.def("iou", &overlap_matrix<lnsdk::Denominator::union_of_both, T>, a, b, out);
    module.def("iobb", &overlap_matrix<lnsdk::Denominator::size_of_a, T>, a, b, out);
}

template <class Out>
void bind_resample(py::module_& module) {
    module.def("resample_rows", &resample_rows<Out>, py::arg("voxels").noconvert(), py::arg("z_axis"), py::arg("y_axis"),
               py::arg("x_axis"), py::arg("levels"), py::arg("out").noconvert(), py::arg("first_row"), py::arg("end_row"),
               py::arg("streaming"));
}

}  // namespace

PYBIND11_MODULE(_C, module) {
    module.doc() = "Compiled kernels of lnsdk; lnsdk.ops is their public face.";
    module.attr("__version__") = LNSDK_VERSION;
    bind_for_type<float>(module);
    bind_for_type<double>(module);
    bind_resample<float>(module);
    bind_resample<std::uint16_t>(module);
    module.def("vote_rows", &vote_rows, py::arg("votes").noconvert(), py::arg("patch"), py::arg("stride"), py::arg("normalize"),
               py::arg("out").noconvert(), py::arg("first_row"), py::arg("streaming"));
    module.def("gather_patches", &gather_patches, py::arg("image").noconvert(), py::arg("corners").noconvert(),
               py::arg("scale").noconvert(), py::arg("shift").noconvert(), py::arg("out").noconvert(), py::arg("streaming"));
    module.attr("STREAMED_BYTES") = lnsdk::STREAMED_BYTES;
    module.def("instruction_sets", &instruction_sets);
    module.def("instruction_set", &instruction_set);
    module.def("use_instruction_set", &use_instruction_set, py::arg("name"));
    module.def("stack_boxes", &stack_boxes, py::arg("boxes").noconvert(), py::arg("scores").noconvert(),
               py::arg("slices").noconvert(), py::arg("iou_threshold"));
}
