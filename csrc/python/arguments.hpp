// What the bindings share: array types, and checks whose messages name the argument, what was expected and what came.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace py = pybind11;

using Index = std::int64_t;

template <class T>
using Array = py::array_t<T, py::array::c_style>;

inline std::string shape_of(const py::array& array) { return py::str(array.attr("shape")); }

inline std::string at(const char* name, std::size_t index) { return std::string(name) + "[" + std::to_string(index) + "]"; }

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
Array<T> to_array(const std::vector<T>& values) {
    return Array<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

// The parts of the module.
void bind_boxes(py::module_& module);
void bind_images(py::module_& module);
