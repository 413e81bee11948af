// lnsdk._C: the kernels as Python sees them. Each binding validates, releases the GIL, runs the kernel and wraps its result.

#include "arguments.hpp"
#include "isa.hpp"

#include <pybind11/stl.h>

#include <string>
#include <utility>
#include <vector>

namespace {

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

}  // namespace

PYBIND11_MODULE(_C, module) {
    module.doc() = "Compiled kernels of lnsdk; lnsdk.ops is their public face.";
    module.attr("__version__") = LNSDK_VERSION;
    module.def("instruction_sets", &instruction_sets);
    module.def("instruction_set", &instruction_set);
    module.def("use_instruction_set", &use_instruction_set, py::arg("name"));
    bind_boxes(module);
    bind_images(module);
}
