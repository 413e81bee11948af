"""3D false-positive reduction: patches around the best 3D boxes, pooling weights, and the combined score (LENS IV-D).

Training cuts its patches and makes its pooling weights with the functions of this module too. Boxes are x1, y1, z1, x2,
y2, z2 in continuous grid indices; a patch's own indices start at the centre of its first sample.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lnsdk.ops.slices import Ranges
from lnsdk.pipelines.proposals import Stacks
from lnsdk.pipelines.settings import FalsePositiveSettings

Array = NDArray[np.float32]
Shape3 = tuple[int, int, int]
Read = Callable[[Ranges], NDArray[np.floating]]
"""From half-open ranges (z, y, x) within a grid to its values there."""


@dataclass(frozen=True)
class Frame:
    """Where the samples of a patch lie in the grid.

    Attributes
    ----------
    z : int
        Grid slice of the patch's first slice; the others follow one by one.
    y, x : float
        Grid position of the patch's first row and column.
    step : float
        Grid pixels from one row or column to the next; 1 in the runtime.
    """

    z: int
    y: float
    x: float
    step: float = 1.0

    def to_patch(self, boxes: Array) -> Array:
        """Convert boxes (N, 6) from grid to patch indices."""
        origin = np.array([self.x, self.y, self.z] * 2)
        scale = np.array([self.step, self.step, 1.0] * 2)
        return np.asarray((boxes - origin) / scale, np.float32)


def frame_around(box: Array, patch: Shape3, step: float = 1.0) -> Frame:
    """Centre a patch on a box.

    Parameters
    ----------
    box : ndarray of float32, shape (6,)
        3D box.
    patch : tuple of int
        Size (z, y, x).
    step : float
        As in `Frame`.

    Returns
    -------
    Frame
        In plane the centres agree exactly: a patch moves as smoothly as its box, so that rounding in one engine and not
        in another never moves it by a whole pixel. Along z it is the slice nearest to the centre, the upper of two.
    """
    x, y, z = (box[:3].astype(np.float64) + box[3:]) / 2
    half_z, half_y, half_x = ((size - 1) / 2 for size in patch)
    return Frame(int(np.floor(z - half_z + 0.5)), float(y - half_y * step), float(x - half_x * step), step)


def cut_patch(read: Read, shape: Shape3, frame: Frame, patch: Shape3) -> Array:
    """Sample a patch: whole slices along z, linear interpolation in plane.

    Parameters
    ----------
    read : callable
        Gives a part of the grid.
    shape : tuple of int
        The grid's size (z, y, x).
    frame : Frame
        Where the patch lies.
    patch : tuple of int
        Its size (z, y, x).

    Returns
    -------
    ndarray of float32, shape `patch`
        0..255. Beyond the first and last slice these repeat; beyond the grid's other sides lies air, 0.
    """
    z = np.clip(frame.z + np.arange(patch[0]), 0, shape[0] - 1)
    y, y_share = _between(frame.y, frame.step, patch[1])
    x, x_share = _between(frame.x, frame.step, patch[2])
    block = _read_padded(read, shape, ((z[0], z[-1] + 1), (y[0], y[-1] + 2), (x[0], x[-1] + 2)))
    rows = _mix(block, y - y[0], y_share[:, None], axis=1)
    return np.asarray(_mix(rows, x - x[0], x_share, axis=2)[z - z[0]])


def axis_weights(low: NDArray[np.floating], high: NDArray[np.floating], bins: int, size: int, stride: int) -> Array:
    """Weights that pool one axis of a feature map over a box: area averages, one row per bin.

    Parameters
    ----------
    low, high : ndarray, shape (N,)
        The boxes' borders along the axis, in patch indices; they are clipped to the patch.
    bins : int
        Equal parts that each box is cut into.
    size : int
        Samples of the feature map along the axis.
    stride : int
        Patch samples per feature sample: sample i is centred at stride x i and stands for half a stride on either side.

    Returns
    -------
    ndarray of float32, shape (N, bins, size)
        Rows sum to 1: the share of the bin that each sample stands for. A bin narrower than a sample is widened to one
        about its centre, which makes its row the linear interpolation there. The outermost samples repeat outward.
    """
    ends = np.clip(np.stack([low, high]).astype(np.float64), -0.5, size * stride - 0.5) / stride
    edges = ends[0][:, None] + (ends[1] - ends[0])[:, None] * np.linspace(0, 1, bins + 1)
    center = (edges[:, 1:] + edges[:, :-1]) / 2
    half = np.maximum(edges[:, 1:] - edges[:, :-1], 1) / 2
    borders = np.concatenate([[-np.inf], np.arange(size - 1) + 0.5, [np.inf]])
    start = np.maximum((center - half)[..., None], borders[:-1])
    stop = np.minimum((center + half)[..., None], borders[1:])
    return np.asarray(np.maximum(stop - start, 0) / (2 * half)[..., None], np.float32)


def pooling_weights(boxes: Array, settings: FalsePositiveSettings) -> dict[str, Array]:
    """Make the pooling inputs of the ``fpr`` graph.

    Parameters
    ----------
    boxes : ndarray of float32, shape (N, 6)
        3D boxes, each in the indices of its own patch.
    settings : FalsePositiveSettings
        Sizes of patch and bins, strides of the pooled levels.

    Returns
    -------
    dict of str to ndarray of float32
        ``z`` (N, bins, depth), which all levels share, and per level ``y1``, ``x1``, ``y2`` ... (N, bins, samples).
    """
    (depth, height, width), (bins_z, bins_y, bins_x) = settings.patch, settings.bins
    weights = {"z": axis_weights(boxes[:, 2], boxes[:, 5], bins_z, depth, 1)}
    for level, stride in enumerate(settings.strides, start=1):
        weights[f"y{level}"] = axis_weights(boxes[:, 1], boxes[:, 4], bins_y, height // stride, stride)
        weights[f"x{level}"] = axis_weights(boxes[:, 0], boxes[:, 3], bins_x, width // stride, stride)
    return weights


def graph_inputs(boxes: Array, read: Read, shape: Shape3, settings: FalsePositiveSettings) -> dict[str, Array]:
    """Make the inputs of the ``fpr`` graph for boxes (N, 6) of a grid; `read` and `shape` as in `cut_patch`."""
    frames = [frame_around(box, settings.patch) for box in boxes]
    patches = np.stack([cut_patch(read, shape, frame, settings.patch) for frame in frames])
    own = np.concatenate([frame.to_patch(box[None]) for frame, box in zip(frames, boxes, strict=True)])
    return {"patch": patches, **pooling_weights(own, settings)}


def reduce_false_positives(
    stacks: Stacks,
    read: Read,
    shape: Shape3,
    run: Callable[[dict[str, Array]], dict[str, Array]],
    settings: FalsePositiveSettings,
    batch: int,
) -> Stacks:
    """Look at the best 3D boxes with the second network and score all boxes anew.

    Parameters
    ----------
    stacks : Stacks
        The detector's 3D boxes, best first.
    read, shape
        The grid, as in `cut_patch`.
    run : callable
        The ``fpr`` graph: from its inputs to ``scores`` (N, 1).
    settings : FalsePositiveSettings
        How many boxes are looked at, and what the graph takes.
    batch : int
        Most patches at once.

    Returns
    -------
    Stacks
        As `combine` gives them.
    """
    looked_at = min(len(stacks.boxes), settings.boxes)
    scores = np.full(len(stacks.boxes), np.nan, np.float32)
    for start in range(0, looked_at, batch):
        part = slice(start, min(start + batch, looked_at))
        scores[part] = run(graph_inputs(stacks.boxes[part], read, shape, settings))["scores"][:, 0]
    return combine(stacks, scores)


def combine(stacks: Stacks, fpr_scores: Array) -> Stacks:
    """Average the two networks' scores (LENS eq. 4).

    Parameters
    ----------
    stacks : Stacks
        The detector's boxes.
    fpr_scores : ndarray of float32, shape (M,)
        Scores of the second network; NaN for the boxes that it did not look at.

    Raises
    ------
    ValueError
        When a score lies outside of 0 to 1.

    Returns
    -------
    Stacks
        Best first, with ``(s_lens + s_fpr) / 2``. A box that was not looked at gets ``s_lens / 2``, as if it had been
        rejected: it never ranks above one with the same detector score that was looked at.
    """
    seen = fpr_scores[~np.isnan(fpr_scores)]
    if len(seen) and not (seen.min() >= 0 and seen.max() <= 1):
        raise ValueError(
            f"fpr_scores must be from 0 to 1, got {seen.min():g} to {seen.max():g}: the bundle's fpr graph must give "
            "probabilities"
        )
    scores = (stacks.scores + np.nan_to_num(fpr_scores)) / np.float32(2)
    order = np.argsort(-scores, kind="stable")
    return replace(stacks, scores=scores, fpr_scores=fpr_scores).rows(order)


def _between(first: float, step: float, count: int) -> tuple[NDArray[np.int64], Array]:
    """Return for `count` positions the sample before each and the share of the one after it."""
    positions = first + step * np.arange(count)
    before = np.floor(positions)
    return before.astype(np.int64), (positions - before).astype(np.float32)


def _read_padded(read: Read, shape: Shape3, ranges: Ranges) -> Array:
    """Read ranges that may reach beyond the grid, which is filled up with air."""
    block = np.zeros([stop - start for start, stop in ranges], np.float32)
    inside = [(max(start, 0), min(stop, size)) for (start, stop), size in zip(ranges, shape, strict=True)]
    if all(start < stop for start, stop in inside):
        places = tuple(
            slice(start - first, stop - first) for (start, stop), (first, _) in zip(inside, ranges, strict=True)
        )
        block[places] = read((inside[0], inside[1], inside[2]))
    return block


def _mix(values: Array, before: NDArray[np.int64], share: Array, axis: int) -> Array:
    """Interpolate linearly along an axis: `share` of the sample after `before`, the rest of that one itself."""
    low, high = np.take(values, before, axis), np.take(values, before + 1, axis)
    return low + share * (high - low)
