#include "check.hpp"
#include "stream.hpp"

using namespace lnsdk;

// All positions of the result and of the source relative to the cache lines, and all lengths over some lines.
TEST(copies_of_any_alignment_and_length) {
    check::Random random(0);
    std::vector<std::uint8_t> bytes(512);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random.bits());
    for (std::size_t offset = 0; offset < 64; ++offset)
        for (std::size_t length = 0; length <= 200; length += length < 66 || length > 120 ? 1 : 9)
            for (const bool streaming : {false, true}) {
                const std::size_t from = (offset * 7 + length) % 64;
                const check::Exact<std::uint8_t> in(std::vector<std::uint8_t>(bytes.begin(), bytes.begin() + from + length));
                check::Exact<std::uint8_t> out(offset + length);
                std::memset(out.data(), 0, offset);
                copy_out(out.data() + offset, in.data() + from, length, streaming);
                finish_streaming();
                bool kept = true;
                for (std::size_t i = 0; i < offset; ++i) kept = kept && out[i] == 0;
                CHECK(kept);
                CHECK(check::same_bits(out.data() + offset, in.data() + from, length));
                check::digest(out.data() + offset, length);
            }
}
