"""Loop-only oracles: every kernel once more, slow and plain, in the arithmetic that its documentation promises."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lnsdk.ops import StackedBoxes

Floats = NDArray[np.floating]


def _size(box: Floats) -> Any:
    half = len(box) // 2
    size = box[half] - box[0]
    for axis in range(1, half):
        size = size * (box[axis + half] - box[axis])
    return size


def _intersection(a: Floats, b: Floats) -> Any:
    half = len(a) // 2
    shared = a.dtype.type(1)
    for axis in range(half):
        extent = min(a[axis + half], b[axis + half]) - max(a[axis], b[axis])
        shared = shared * (extent if extent > 0 else a.dtype.type(0))
    return shared


def _iou(a: Floats, b: Floats) -> Any:
    with np.errstate(all="ignore"):  # infinite boxes give NaN, which is above no threshold
        shared = _intersection(a, b)
        return shared / (_size(a) + _size(b) - shared) if shared > 0 else a.dtype.type(0)


def _by_score(scores: Floats) -> list[int]:
    return sorted(range(len(scores)), key=lambda index: (-float(scores[index]), index))


def nms(
    boxes: Floats,
    scores: Floats,
    iou_threshold: float,
    score_threshold: float | None = None,
    max_kept: int | None = None,
) -> NDArray[np.int64]:
    """2D and 3D, by the number of columns."""
    return batched_nms(boxes, scores, np.zeros(len(boxes), np.int64), iou_threshold, score_threshold, max_kept)


def batched_nms(
    boxes: Floats,
    scores: Floats,
    groups: NDArray[np.integer],
    iou_threshold: float,
    score_threshold: float | None = None,
    max_kept: int | None = None,
) -> NDArray[np.int64]:
    kept: list[int] = []
    for index in _by_score(scores):
        if score_threshold is not None and scores[index] < scores.dtype.type(score_threshold):
            continue
        rivals = [other for other in kept if groups[other] == groups[index]]
        if not any(float(_iou(boxes[other], boxes[index])) > iou_threshold for other in rivals):
            kept.append(index)
    return np.array(kept[:max_kept], np.int64)


def iou(a: Floats, b: Floats) -> Floats:
    out = np.zeros((len(a), len(b)), a.dtype)
    for i in range(len(a)):
        for j in range(len(b)):
            out[i, j] = _iou(a[i], b[j])
    return out


def iobb(a: Floats, b: Floats) -> Floats:
    out = np.zeros((len(a), len(b)), a.dtype)
    for i in range(len(a)):
        for j in range(len(b)):
            shared = _intersection(a[i], b[j])
            out[i, j] = shared / _size(a[i]) if shared > 0 else 0
    return out


def stack_boxes(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], slices: NDArray[np.integer], iou_threshold: float
) -> StackedBoxes:
    tracklets: list[list[int]] = []
    for z in sorted(set(slices.tolist())):
        current = [index for index in range(len(boxes)) if slices[index] == z]
        open_tracklets = [members for members in tracklets if slices[members[-1]] == z - 1]
        while True:
            pairs = [
                (-float(_iou(boxes[box], boxes[members[-1]])), -float(scores[box]), box, members[-1], members)
                for box in current
                for members in open_tracklets
                if float(_iou(boxes[box], boxes[members[-1]])) > iou_threshold
            ]
            if not pairs:
                break
            *_, box, _, joined = min(pairs, key=lambda pair: pair[:4])
            joined.append(box)
            current.remove(box)
            open_tracklets = [members for members in open_tracklets if members is not joined]
        tracklets.extend([box] for box in current)

    tracklets.sort(key=lambda members: (-max(float(scores[index]) for index in members), min(members)))
    rows, members_of = [], np.zeros(len(boxes), np.int64)
    for row, members in enumerate(tracklets):
        weights = [float(scores[index]) for index in members]
        if sum(weights) == 0:
            weights = [1.0] * len(members)
        mean = [0.0] * 4
        for index, weight in zip(members, weights, strict=True):
            for corner in range(4):
                mean[corner] += weight * float(boxes[index, corner])
            members_of[index] = row
        x1, y1, x2, y2 = (total / sum(weights) for total in mean)
        rows.append([x1, y1, slices[members[0]] - 0.5, x2, y2, slices[members[-1]] + 0.5])
    return StackedBoxes(
        np.array(rows, np.float32).reshape(-1, 6),
        np.array([max(scores[index] for index in members) for members in tracklets], np.float32),
        members_of,
    )


def resample_window(
    voxels: NDArray[np.int16],
    spacing: Sequence[float],
    out_spacing: Sequence[float],
    window: tuple[float, float] = (-1024, 3071),
    origin: Sequence[float] = (0, 0, 0),
) -> NDArray[np.float32]:
    shape = []
    for axis in range(3):
        span = ((voxels.shape[axis] - 1) * spacing[2 - axis] - origin[2 - axis]) / out_spacing[2 - axis]
        shape.append(math.floor(span + 1e-6) + 1)
    out = np.zeros(shape, np.float32)
    low, high, scale = np.float32(window[0]), np.float32(window[1]), np.float32(255 / (window[1] - window[0]))
    for k in range(shape[0]):
        for j in range(shape[1]):
            for i in range(shape[2]):
                hu = _interpolated(voxels, (k, j, i), spacing, out_spacing, origin)
                out[k, j, i] = (min(max(hu, low), high) - low) * scale
    return out


def _interpolated(
    voxels: NDArray[np.int16],
    sample: tuple[int, int, int],
    spacing: Sequence[float],
    out_spacing: Sequence[float],
    origin: Sequence[float],
) -> np.float32:
    before, after, weight = [], [], []
    for axis in range(3):
        last = voxels.shape[axis] - 1
        step, start = out_spacing[2 - axis] / spacing[2 - axis], origin[2 - axis] / spacing[2 - axis]
        position = min(math.floor((sample[axis] * step + start) * 1e6 + 0.5) / 1e6, last)
        before.append(math.floor(position))
        after.append(min(math.floor(position) + 1, last))
        weight.append(np.float32(position - math.floor(position)))

    def between(a: np.float32, b: np.float32, axis: int) -> np.float32:
        return np.float32(a + weight[axis] * (b - a))

    def along_z(y: int, x: int) -> np.float32:
        return between(np.float32(voxels[before[0], y, x]), np.float32(voxels[after[0], y, x]), 0)

    left = between(along_z(before[1], before[2]), along_z(after[1], before[2]), 1)
    right = between(along_z(before[1], after[2]), along_z(after[1], after[2]), 1)
    return between(left, right, 2)


def group_slices(
    grid: NDArray[np.generic], centers: Sequence[int], images: int = 3, channels: int = 3
) -> NDArray[np.generic]:
    out = np.zeros((len(centers), images, channels, *grid.shape[1:]), grid.dtype)
    for n, center in enumerate(centers):
        for image in range(images):
            for channel in range(channels):
                z = center + (image - images // 2) * channels + channel - channels // 2
                out[n, image, channel] = grid[min(max(z, 0), len(grid) - 1)]
    return out


def vote_heatmap(
    votes: NDArray[np.float32], patch: int, stride: int, shape: tuple[int, int], normalize: bool = False
) -> NDArray[np.float32]:
    out = np.zeros(shape, np.float32)
    rows, columns = votes.shape
    most = -(-patch // stride)  # windows over one pixel, along one axis
    down, across = max(1, min(most, rows)), max(1, min(most, columns))
    for y in range(shape[0]):
        over_y = [i for i in range(rows) if i * stride <= y < i * stride + patch]
        for x in range(shape[1]):
            over_x = [j for j in range(columns) if j * stride <= x < j * stride + patch]
            sums = {j: _sum_by_groups([(i, float(votes[i, j])) for i in over_y], down) for j in over_x}
            total = _sum_by_groups([(j, sums[j]) for j in over_x], across)
            if normalize:
                covering = len(over_y) * len(over_x)
                out[y, x] = total / covering if covering else 0
            else:
                out[y, x] = total * ((stride / patch) * (stride / patch))
    return out


def _sum_by_groups(run: list[tuple[int, float]], size: int) -> float:
    """Of numbered values: those before the first multiple of `size` from the last on, the others from the first on."""
    first = run[0][0] if run else 0
    boundary = -(-first // size) * size
    to_end, from_begin = 0.0, 0.0
    for number, value in reversed(run):
        if number < boundary:
            to_end += value
    for number, value in run:
        if number >= boundary:
            from_begin += value
    return to_end + from_begin


def gather_patches(
    image: NDArray[np.uint8], corners: Sequence[Sequence[int]], patch: int, mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    channels = image.shape[2]
    out = np.zeros((len(corners), channels, patch, patch), np.float32)
    for n, (top, left) in enumerate(corners):
        for c in range(channels):
            scale, shift = np.float32(1 / (255 * std[c])), np.float32(-mean[c] / std[c])
            for y in range(patch):
                for x in range(patch):
                    out[n, c, y, x] = np.float32(image[top + y, left + x, c]) * scale + shift
    return out


def body_box(voxels: NDArray[np.int16], spacing: Sequence[float]) -> tuple[tuple[int, int], ...]:
    """Samples 4 mm apart in every slice; body is what some 3 x 3 square of tissue covers."""
    step = [max(1, int(4 / spacing[2 - axis])) for axis in range(3)]
    samples = voxels[:, :: step[1], :: step[2]] > -400
    depth, height, width = samples.shape
    found = set()
    for z in range(depth):
        for y in range(height - 2):
            for x in range(width - 2):
                square = [(y + dy, x + dx) for dy in range(3) for dx in range(3)]
                if all(samples[z, v, u] for v, u in square):
                    found |= {(v * step[1], u * step[2]) for v, u in square}
    if not found:
        return tuple((0, size) for size in voxels.shape)
    ranges = [(0, len(voxels))]
    for axis in (0, 1):
        margin, count = math.ceil(8 / spacing[1 - axis]), voxels.shape[1 + axis]
        occupied = [place[axis] for place in found]
        ranges.append((max(0, min(occupied) - margin), min(count, max(occupied) + 1 + margin)))
    return tuple(ranges)
