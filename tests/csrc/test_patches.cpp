#include "check.hpp"
#include "patches.hpp"

using namespace lnsdk;

namespace {

// Windows in all corners of an image whose rows may be longer than its pixels, or lie in the opposite order.
template <int CHANNELS>
void windows_are_gathered(std::size_t patch, std::size_t height, std::size_t width, std::size_t padding, bool upside_down) {
    const check::Case described(std::to_string(CHANNELS) + " channels, windows of " + std::to_string(patch) + " in " +
                                std::to_string(height) + " x " + std::to_string(width) + ", rows padded by " +
                                std::to_string(padding) + (upside_down ? ", upside down" : ""));
    check::Random random(patch);
    const std::size_t step = width * CHANNELS + padding;
    check::Exact<std::uint8_t> bytes((height - 1) * step + width * CHANNELS);  // the last row has no padding
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(random.bits());
    const auto row_step = static_cast<std::ptrdiff_t>(step);
    const Image image = upside_down ? Image{bytes.data() + (height - 1) * step, -row_step} : Image{bytes.data(), row_step};
    const auto last_y = static_cast<std::int64_t>(height - patch), last_x = static_cast<std::int64_t>(width - patch);
    const check::Exact<std::int64_t> corners({0, 0, last_y, last_x, 0, last_x, last_y, 0, last_y / 2, last_x / 2});
    check::Exact<float> scale(CHANNELS), shift(CHANNELS);
    for (int c = 0; c < CHANNELS; ++c) scale[c] = 1 / (255 * (0.2f + 0.01f * c)), shift[c] = -0.4f / (0.2f + 0.01f * c);

    const std::size_t count = corners.size() / 2;
    std::vector<float> expected;
    for (std::size_t i = 0; i < count; ++i)
        for (int c = 0; c < CHANNELS; ++c)
            for (std::size_t y = 0; y < patch; ++y)
                for (std::size_t x = 0; x < patch; ++x) {
                    const std::int64_t v = corners[2 * i] + static_cast<std::int64_t>(y),
                                       u = corners[2 * i + 1] + static_cast<std::int64_t>(x);
                    expected.push_back(static_cast<float>(image.data[v * image.row_step + u * CHANNELS + c]) * scale[c] +
                                       shift[c]);
                }
    for (const bool streaming : {false, true}) {
        check::Exact<float> found(expected.size());
        gather_patches<CHANNELS>(image, corners.data(), count, patch, scale.data(), shift.data(), streaming, found.data());
        CHECK(check::same_bits(found.data(), expected.data(), expected.size()));
        check::digest(found.values());
    }
}

template <int CHANNELS>
void windows_of_any_width() {
    for (std::size_t patch = 1; patch <= 36; ++patch) {
        windows_are_gathered<CHANNELS>(patch, patch, patch, 0, false);
        windows_are_gathered<CHANNELS>(patch, patch + 3, patch + 5, 7, false);
        windows_are_gathered<CHANNELS>(patch, patch + 1, patch, 1, true);
    }
}

}  // namespace

TEST(patches_of_one_channel) { windows_of_any_width<1>(); }
TEST(patches_of_three_channels) { windows_of_any_width<3>(); }
TEST(patches_of_four_channels) { windows_of_any_width<4>(); }
