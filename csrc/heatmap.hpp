// Vote heat maps: for each pixel the sum of the votes of the windows that cover it.
//
// Windows of `patch` pixels begin every `stride` pixels, so the pixels between two places where a window begins or ends share
// their windows: all sums are formed on that coarse grid, and each pixel is written once.
//
// A sum over up to k neighbours costs two additions, whatever k is: the votes are cut into groups of k, a run of k neighbours is
// the end of one group and the beginning of the next, and the sums from each vote to the end of its group, and from the beginning
// of its group to each vote, are formed once (van Herk 1992; Gil and Werman 1993). Nothing is ever subtracted, so that small
// votes beside large ones keep their digits. Sums are doubles: down the columns first, then along the rows.
#pragma once

#include "stream.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lnsdk {

// Pixels begin..end - 1 along one axis, all covered by the windows first..last - 1.
struct Stretch {
    std::size_t begin, end, first, last;
};

// How the windows along one axis cover `pixels` pixels.
inline std::vector<Stretch> stretches(std::size_t windows, std::size_t patch, std::size_t stride, std::size_t pixels) {
    std::vector<Stretch> all;
    for (std::size_t begin = 0; begin < pixels;) {
        const std::size_t started = begin / stride + 1;                                      // windows that begin here or before
        const std::size_t ended = begin < patch ? 0 : (begin - patch) / stride + 1;          // windows that end here or before
        const std::size_t end = std::min({pixels, started * stride, ended * stride + patch});  // where the next begins or ends
        const std::size_t last = std::min(windows, started);
        all.push_back({begin, end, std::min(ended, last), last});
        begin = end;
    }
    return all;
}

// Sums of runs of at most k neighbouring rows, each `width` numbers wide, for runs that only move forward.
class RunningRows {
public:
    RunningRows(const float* rows, std::size_t count, std::size_t width, std::size_t k)
        : rows_(rows), count_(count), width_(width), k_(k), to_end_(k * width), from_begin_(width) {}

    // out = the sum of rows first..last - 1.
    void sum(std::size_t first, std::size_t last, double* out) {
        if (first >= last) return std::fill_n(out, width_, 0.0), void();
        const std::size_t boundary = (first + k_ - 1) / k_ * k_;  // where the run's second group begins
        if (boundary != boundary_) begin_group(boundary);
        for (; added_ < last; ++added_) add(added_, from_begin_.data());
        const double* to_end = first < boundary ? to_end_.data() + first % k_ * width_ : nullptr;
        for (std::size_t j = 0; j < width_; ++j) out[j] = (to_end ? to_end[j] : 0.0) + (boundary < last ? from_begin_[j] : 0.0);
    }

private:
    // Forgets the sums of the groups before, and forms those to the end of the group that ends at the boundary.
    void begin_group(std::size_t boundary) {
        boundary_ = added_ = boundary;
        std::fill(from_begin_.begin(), from_begin_.end(), 0.0);
        std::fill(to_end_.begin(), to_end_.end(), 0.0);
        for (std::size_t row = boundary; boundary > 0 && row-- > boundary - k_;) {
            double* sums = to_end_.data() + row % k_ * width_;
            if (row + 1 < boundary) std::copy_n(sums + width_, width_, sums);
            add(row, sums);
        }
    }

    void add(std::size_t row, double* sums) const {
        if (row >= count_) return;
        for (std::size_t j = 0; j < width_; ++j) sums[j] += rows_[row * width_ + j];
    }

    const float* rows_;
    std::size_t count_, width_, k_;
    std::vector<double> to_end_, from_begin_;
    std::size_t boundary_ = static_cast<std::size_t>(-1), added_ = 0;
};

// The same along one row, for all runs at once: to_end and from_begin of each number.
class RunSums {
public:
    RunSums(std::size_t count, std::size_t k) : k_(k), to_end_(count), from_begin_(count) {}

    void assign(const double* values) {
        const std::size_t count = to_end_.size();
        for (std::size_t i = 0; i < count; ++i) from_begin_[i] = i % k_ == 0 ? values[i] : from_begin_[i - 1] + values[i];
        for (std::size_t i = count; i-- > 0;) to_end_[i] = (i + 1) % k_ == 0 || i + 1 == count ? values[i] : to_end_[i + 1] + values[i];
    }

    double sum(std::size_t first, std::size_t last) const {
        if (first >= last) return 0;
        const std::size_t boundary = (first + k_ - 1) / k_ * k_;
        return (first < boundary ? to_end_[first] : 0.0) + (boundary < last ? from_begin_[last - 1] : 0.0);
    }

private:
    std::size_t k_;
    std::vector<double> to_end_, from_begin_;
};

struct Votes {
    const float* data;
    std::size_t rows, columns, patch, stride;
    double scale;  // of the sums, unless they are normalized
};

// Writes `rows` rows of the map from first_row on; `width` pixels each. Normalized divides by the number of windows over a pixel.
inline void vote_rows(const Votes& votes, std::size_t first_row, std::size_t rows, std::size_t width, bool normalize, bool streaming,
                      float* out) {
    const std::size_t most = (votes.patch + votes.stride - 1) / votes.stride;  // windows over one pixel along an axis
    const std::vector<Stretch> across = stretches(votes.columns, votes.patch, votes.stride, width);
    RunningRows columns(votes.data, votes.rows, votes.columns, std::max<std::size_t>(1, std::min(most, votes.rows)));
    RunSums row(votes.columns, std::max<std::size_t>(1, std::min(most, votes.columns)));
    std::vector<double> column_sums(votes.columns);
    std::vector<float> line(width);
    for (const Stretch& down : stretches(votes.rows, votes.patch, votes.stride, first_row + rows)) {
        if (down.end <= first_row) continue;
        columns.sum(down.first, down.last, column_sums.data());
        row.assign(column_sums.data());
        for (const Stretch& part : across) {
            const std::size_t covering = (down.last - down.first) * (part.last - part.first);
            const double sum = row.sum(part.first, part.last);
            const double value = normalize ? (covering == 0 ? 0.0 : sum / covering) : sum * votes.scale;
            std::fill(line.begin() + part.begin, line.begin() + part.end, static_cast<float>(value));
        }
        for (std::size_t y = std::max(down.begin, first_row); y < down.end; ++y)
            copy_out(out + (y - first_row) * width, line.data(), width * sizeof(float), streaming);
    }
    finish_streaming();
}

}  // namespace lnsdk
