#include "check.hpp"
#include "overlap.hpp"

#include <algorithm>

using namespace lnsdk;

namespace {

template <class T, int D>
void matrices_are_the_definition(check::Boxes how, std::size_t rows, std::size_t columns) {
    const check::Case described(std::to_string(D) + "D " + (sizeof(T) == 4 ? "float" : "double") + ", " + check::name_of(how) +
                                ", " + std::to_string(rows) + " x " + std::to_string(columns));
    check::Random random(rows + columns);
    const check::Exact<Box<T, D>> a(check::boxes_of<T, D>(how, rows, random)), b(check::boxes_of<T, D>(how, columns, random));
    check::Exact<T> iou(rows * columns), iobb(rows * columns);
    overlap_matrix<Denominator::union_of_both>(a.data(), rows, b.data(), columns, iou.data());
    overlap_matrix<Denominator::size_of_a>(a.data(), rows, b.data(), columns, iobb.data());
    bool alike = true;
    for (std::size_t i = 0; i < rows; ++i)
        for (std::size_t j = 0; j < columns; ++j) {
            T shared = 1, size = 1;
            for (int axis = 0; axis < D; ++axis) {
                const T extent = std::min(a[i].high[axis], b[j].high[axis]) - std::max(a[i].low[axis], b[j].low[axis]);
                shared *= extent > 0 ? extent : T(0);
                size *= a[i].high[axis] - a[i].low[axis];
            }
            alike = alike && iou[i * columns + j] == check::iou_of(a[i], b[j]);
            alike = alike && iobb[i * columns + j] == (shared > 0 ? shared / size : T(0));
        }
    CHECK(alike);
    check::digest(iou.values());
    check::digest(iobb.values());
}

template <class T, int D>
void matrices() {
    for (const check::Boxes how : check::ALL_BOXES) {
        if (!check::is_valid(how)) continue;
        for (const std::size_t columns : {1, 15, 16, 17, 100}) matrices_are_the_definition<T, D>(how, 9, columns);
        matrices_are_the_definition<T, D>(how, 3, 2100);  // more columns than are computed at once
    }
    matrices_are_the_definition<T, D>(check::Boxes::uniform, 0, 5);
    matrices_are_the_definition<T, D>(check::Boxes::uniform, 5, 0);
}

}  // namespace

TEST(overlap_matrices) {
    matrices<float, 2>();
    matrices<float, 3>();
    matrices<double, 2>();
    matrices<double, 3>();
}
