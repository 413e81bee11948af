#include "check.hpp"
#include "half.hpp"
#include "resample.hpp"

#include <algorithm>
#include <cmath>

using namespace lnsdk;

namespace {

// Outputs first..first + count - 1 along an axis of `voxels` voxels, `ratio` voxels apart; beyond the last voxel they stay on
// it.
struct Samples {
    check::Exact<std::int64_t> before, after;
    check::Exact<float> weight;

    Samples(std::size_t first, std::size_t count, double ratio, std::int64_t voxels)
        : before(count), after(count), weight(count) {
        for (std::size_t i = 0; i < count; ++i) {
            const double position = std::min(static_cast<double>(first + i) * ratio, static_cast<double>(voxels - 1));
            before[i] = static_cast<std::int64_t>(position);
            after[i] = std::min(before[i] + 1, voxels - 1);
            weight[i] = static_cast<float>(position - static_cast<double>(before[i]));
        }
    }

    Axis axis() const { return {before.data(), after.data(), weight.data(), before.size()}; }
};

float between(float a, float b, float weight) { return a + weight * (b - a); }

void store_by_definition(float value, float& out) { out = value; }
void store_by_definition(float value, std::uint16_t& out) { out = half_of(value); }  // which has a test of its own

struct Shape {
    std::int64_t z, y, x;
};

template <class Out>
void resamples_as_defined(Shape shape, double ratio_y, double ratio_x, std::size_t first_x, std::size_t count_x, Window window,
                          bool upside_down, std::size_t count_y = 5) {
    const check::Case described("ratios " + std::to_string(ratio_y) + ", " + std::to_string(ratio_x) + ", outputs from " +
                                std::to_string(first_x) + ", " + std::to_string(count_x) + " of them, " +
                                std::to_string(shape.x) + " voxels" + (upside_down ? ", upside down" : "") +
                                (sizeof(Out) == 2 ? ", half" : ", float"));
    check::Random random(count_x);
    check::Exact<std::int16_t> voxels(static_cast<std::size_t>(shape.z * shape.y * shape.x));
    for (std::size_t i = 0; i < voxels.size(); ++i) voxels[i] = static_cast<std::int16_t>(random.integer(-2000, 3500));
    voxels[0] = -32768, voxels[voxels.size() - 1] = 32767;
    Voxels source{voxels.data(), shape.y * shape.x, shape.x};
    if (upside_down) source = {voxels.data() + (shape.y * shape.z - 1) * shape.x, -shape.y * shape.x, -shape.x};
    const Samples z(0, 3, 0.6, shape.z), y(1, count_y, ratio_y, shape.y), x(first_x, count_x, ratio_x, shape.x);

    const std::size_t rows = 3 * count_y;
    std::vector<Out> expected(rows * count_x);
    for (std::size_t row = 0; row < rows; ++row)
        for (std::size_t i = 0; i < count_x; ++i) {
            const std::size_t k = row / count_y, j = row % count_y;
            const auto along_z = [&](std::int64_t v, std::int64_t u) {
                const auto at = [&](std::int64_t w) { return source.data[w * source.slice_step + v * source.row_step + u]; };
                return between(at(z.before[k]), at(z.after[k]), z.weight[k]);
            };
            const auto along_y = [&](std::int64_t u) {
                return between(along_z(y.before[j], u), along_z(y.after[j], u), y.weight[j]);
            };
            const float value = between(along_y(x.before[i]), along_y(x.after[i]), x.weight[i]);
            store_by_definition((std::min(std::max(value, window.low), window.high) - window.low) * window.scale,
                                expected[row * count_x + i]);
        }
    // Rows and slices of the output may lie apart, and begin anywhere; what lies between them is not touched.
    for (const std::size_t gap : {0, 1, 3}) {
        const std::size_t row_step = count_x + gap, slice_step = count_y * row_step + 2 * gap;
        const std::size_t size = gap + 2 * slice_step + (count_y - 1) * row_step + count_x;
        const std::vector<Out> untouched(size, Out(77));
        std::vector<Out> filled = untouched;
        for (std::size_t row = 0; row < rows; ++row)
            std::copy_n(&expected[row * count_x], count_x,
                        &filled[gap + row / count_y * slice_step + row % count_y * row_step]);
        check::Exact<Out> whole(untouched), parts(untouched);
        const auto run = [&](std::size_t first_row, std::size_t end_row, check::Exact<Out>& out) {
            const Grid<Out> grid{out.data() + gap, static_cast<std::ptrdiff_t>(slice_step),
                                 static_cast<std::ptrdiff_t>(row_step)};
            Resampler<Out>(source, z.axis(), y.axis(), x.axis(), window)(first_row, end_row, grid);
        };
        run(0, count_y, whole);
        run(0, 1, parts), run(1, count_y - 1, parts), run(count_y - 1, count_y, parts);  // as several threads do
        CHECK(check::same_bits(whole.data(), filled.data(), size));
        CHECK(check::same_bits(parts.data(), filled.data(), size));
    }
    check::digest(expected);
}

template <class Out>
void resamples_anything() {
    const Window lung{-1024, 3071, 255.0f / 4095}, narrow{-150, 250, 255.0f / 400};
    // Up to a ratio of 2, sixteen outputs lie within 32 voxels, which AVX-512 permutes; above they do not.
    for (const double ratio : {0.13, 0.5, 0.8, 1.0, 1.42, 2.0, 2.06, 2.07, 2.5, 9.0})
        for (const std::int64_t voxels : {1, 2, 17, 90}) {
            const std::size_t count = static_cast<std::size_t>(static_cast<double>(voxels - 1) / ratio + 1e-6) + 1;
            resamples_as_defined<Out>({2, 6, voxels}, 0.7, ratio, 0, count, lung, false);
            resamples_as_defined<Out>({3, 9, voxels}, 1.9, ratio, count / 3, (count + 1) / 2, narrow, true);
            resamples_as_defined<Out>({1, 1, voxels}, 1.0, ratio, count - 1, 1, lung, false);
        }
    // More rows than are made of one slice before the next.
    for (const double ratio : {0.2, 0.9, 1.0, 1.9}) resamples_as_defined<Out>({4, 60, 20}, ratio, 0.7, 0, 26, lung, false, 80);
    for (std::size_t count = 1; count <= 40; ++count) resamples_as_defined<Out>({2, 5, 60}, 1.3, 0.9, 3, count, lung, false);
}

}  // namespace

TEST(resample_to_float) { resamples_anything<float>(); }
TEST(resample_to_half) { resamples_anything<std::uint16_t>(); }
