// Bindings of the kernels over volumes and images: resampling, heat maps, patches.

#include "arguments.hpp"
#include "heatmap.hpp"
#include "patches.hpp"
#include "resample.hpp"
#include "stream.hpp"

#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace {

// What lnsdk.ops.slices computes for one axis: the voxel before, the voxel after and its weight, for each output.
using AxisArrays = std::tuple<Array<Index>, Array<Index>, Array<float>>;

lnsdk::Axis require_axis(const AxisArrays& arrays, const char* name, py::ssize_t voxels) {
    const auto& [before, after, weight] = arrays;
    const auto alike = [&before = before](const py::array& each) { return each.ndim() == 1 && each.size() == before.size(); };
    if (!alike(before) || !alike(after) || !alike(weight) || before.size() == 0)
        throw py::value_error(std::string(name) + " must hold three arrays of the same length, at least 1");
    for (py::ssize_t i = 0; i < before.size(); ++i) {
        const Index first = before.data()[i], second = after.data()[i];
        const bool ascending = i == 0 || before.data()[i - 1] <= first;
        if (!(0 <= first && first < voxels && ascending && second == std::min<Index>(first + 1, voxels - 1)))
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
                   std::size_t end_row) {
    const auto [slice_step, row_step] = require_rows(voxels, "voxels");
    const auto [out_slice_step, out_row_step] = require_rows(out, "out");
    const lnsdk::Axis z = require_axis(z_axis, "z_axis", voxels.shape(0)), y = require_axis(y_axis, "y_axis", voxels.shape(1)),
                      x = require_axis(x_axis, "x_axis", voxels.shape(2));
    const auto length = [&out](int axis) { return static_cast<std::size_t>(out.shape(axis)); };
    if (length(0) != z.count || length(1) != y.count || length(2) != x.count || first_row > end_row || end_row > y.count)
        throw py::value_error("out must have as many samples along z, y, x as the axes, and the rows must lie inside it");
    Out* values = out.mutable_data();
    const auto [low, high, scale] = levels;
    py::gil_scoped_release released;
    lnsdk::Resampler<Out>({voxels.data(), slice_step, row_step}, z, y, x, {low, high, scale})(first_row, end_row,
                                                                                         {values, out_slice_step, out_row_step});
}

void vote_rows(const Array<float>& votes, std::size_t patch, std::size_t stride, double scale, bool normalize, Array<float>& out,
               std::size_t first_row, bool streaming) {
    if (votes.ndim() != 2 || out.ndim() != 2)
        throw py::value_error("votes and out must have two dimensions, got " + shape_of(votes) + " and " + shape_of(out));
    constexpr std::size_t largest = std::size_t{1} << 31;  // so that no sum of the two overflows
    if (patch == 0 || stride == 0 || patch > largest || stride > largest)
        throw py::value_error("patch and stride must lie in 1..2^31");
    float* values = out.mutable_data();
    const std::size_t rows = out.shape(0), width = out.shape(1);
    const lnsdk::Votes all{votes.data(), static_cast<std::size_t>(votes.shape(0)), static_cast<std::size_t>(votes.shape(1)), patch, stride,
                            scale};
    py::gil_scoped_release released;
    lnsdk::vote_rows(all, first_row, rows, width, normalize, streaming, values);
}

void require_corners(const std::vector<Index>& corners, const py::array& image, py::ssize_t patch) {
    const Index last_y = image.shape(0) - patch, last_x = image.shape(1) - patch;
    for (std::size_t i = 0; i < corners.size() / 2; ++i) {
        const Index y = corners[2 * i], x = corners[2 * i + 1];
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
    const std::vector<Index> places(corners.data(), corners.data() + corners.size());  // nobody can change a copy
    require_corners(places, image, out.shape(2));
    const lnsdk::Image pixels{image.data(), image.strides(0)};
    float* values = out.mutable_data();
    const std::size_t count = corners.shape(0), patch = out.shape(2);
    const auto run = [&](auto gather) {
        py::gil_scoped_release released;
        gather(pixels, places.data(), count, patch, scale.data(), shift.data(), streaming, values);
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

template <class Out>
void bind_resample(py::module_& module) {
    module.def("resample_rows", &resample_rows<Out>, py::arg("voxels").noconvert(), py::arg("z_axis"), py::arg("y_axis"),
               py::arg("x_axis"), py::arg("levels"), py::arg("out").noconvert(), py::arg("first_row"), py::arg("end_row"));
}

}  // namespace

void bind_images(py::module_& module) {
    bind_resample<float>(module);
    bind_resample<std::uint16_t>(module);
    module.def("vote_rows", &vote_rows, py::arg("votes").noconvert(), py::arg("patch"), py::arg("stride"), py::arg("scale"),
               py::arg("normalize"), py::arg("out").noconvert(), py::arg("first_row"), py::arg("streaming"));
    module.def("gather_patches", &gather_patches, py::arg("image").noconvert(), py::arg("corners").noconvert(),
               py::arg("scale").noconvert(), py::arg("shift").noconvert(), py::arg("out").noconvert(), py::arg("streaming"));
    module.attr("STREAMED_BYTES") = lnsdk::STREAMED_BYTES;
}
