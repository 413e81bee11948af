"""Non-maximum suppression on the device: :mod:`lnsdk.ops.boxes` once more."""

from dataclasses import dataclass

import numpy as np
from numba import cuda
from numpy.typing import NDArray

from lnsdk.ops import _arguments
from lnsdk.ops.cuda import _device
from lnsdk.ops.cuda._device import DeviceArray, Kernel, OnDevice, Stream, Workspace, blocks
from lnsdk.ops.cuda._suppression import BLOCK, MAX_BOXES, Suppression, require_threshold, sort_key


@dataclass(frozen=True)
class Kept:
    """What a suppression on the device kept; how many these are is known on the device alone.

    Attributes
    ----------
    indices : device array of int64, shape (max_kept,)
        Indices of the kept boxes by falling score, ties by the lowest index, then -1.
    count : device array of int32, shape (1,)
        How many were kept.
    """

    indices: DeviceArray
    count: DeviceArray


def nms(
    boxes: OnDevice,
    scores: OnDevice,
    iou_threshold: float,
    max_kept: int | None = None,
    out: Kept | None = None,
    *,
    workspace: Workspace | None = None,
    stream: Stream = 0,
) -> Kept:
    """Greedy non-maximum suppression on the device: index for index the answer of :func:`lnsdk.ops.nms`.

    The overlap is computed as float32 and compared as a double; equal scores keep their order.

    Parameters
    ----------
    boxes : float32 on the device, shape (N, 4), C-contiguous
        x1, y1, x2, y2 in any unit; at most 65,536. Boxes without area are kept and suppress nothing; infinite corners
        are allowed.
    scores : float32 on the device, shape (N,), C-contiguous
        Higher is better.
    iou_threshold : float
        0 to 1; a box is suppressed strictly above it.
    max_kept : int, optional
        Most boxes to keep; all N without it. The search ends there, so a small number saves time.
    out : Kept, optional
        Arrays on the device to write into: int64 of shape (max_kept,) and int32 of shape (1,), C-contiguous.
    workspace : Workspace, optional
        Scratch memory: N^2 / 8 + 32 N bytes.
    stream : numba's stream or a handle
        Where the work is queued.

    Returns
    -------
    Kept
        ``out`` itself when it was given.

    Raises
    ------
    BackendUnavailable
        When there is no GPU, driver or CUDA compiler; the message says which.
    TypeError
        When boxes or scores are not float32 on the device, or max_kept is no integer.
    ValueError
        When a shape, the threshold or max_kept is wrong, there are too many boxes, or an array is not C-contiguous.
    """
    stream = _device.stream_of(stream)
    corners = _device.float32(boxes, "boxes", (None, 4), stream)
    count = corners.shape[0]
    values = _device.float32(scores, "scores", (count,), stream)
    require_threshold(iou_threshold)
    if count > MAX_BOXES:
        raise ValueError(f"boxes must be at most {MAX_BOXES}, got {count}; keep those with the best scores")
    wanted = _arguments.count_or_none(max_kept, "max_kept")
    limit = count if wanted is None else wanted
    given = (out.indices, out.count) if out is not None else (None, None)
    result, indices = _device.output(given[0], "out.indices", (limit,), np.int64, stream)
    result_count, kept_count = _device.output(given[1], "out.count", (1,), np.int32, stream)

    found = Suppression(count, workspace, stream)
    if count == 0:
        found.nothing(kept_count)
    else:
        MAKE_KEYS.launch(found.grid, BLOCK, stream, values, found.keys, found.count)
        found.rank()
        GATHER.launch(found.grid, BLOCK, stream, corners, found.order, found.boxes)
        found.sweep(iou_threshold, limit, False, kept_count)
    if limit:
        INDICES.launch(blocks(limit, BLOCK), BLOCK, stream, found.order, found.kept, kept_count, indices)
    return out if out is not None else Kept(result, result_count)


def _make_keys(scores: NDArray[np.float32], keys: NDArray[np.int64], count: NDArray[np.int32]) -> None:
    box = cuda.grid(1)
    if box == 0:
        count[0] = scores.shape[0]
    if box < scores.shape[0]:
        keys[box] = sort_key(scores[box], box)


MAKE_KEYS = Kernel(_make_keys, "void(float32[::1], int64[::1], int32[::1])")


def _gather(boxes: NDArray[np.float32], order: NDArray[np.int32], ranked: NDArray[np.float32]) -> None:
    """Write the boxes by rank, so that the comparisons that follow read neighbours."""
    rank = cuda.grid(1)
    if rank < boxes.shape[0]:
        for corner in range(4):
            ranked[4 * rank + corner] = boxes[order[rank], corner]


GATHER = Kernel(_gather, "void(float32[:, ::1], int32[::1], float32[::1])")


def _indices(
    order: NDArray[np.int32], kept: NDArray[np.int32], count: NDArray[np.int32], indices: NDArray[np.int64]
) -> None:
    """Write the index of each box that was kept, and -1 behind the last."""
    place = cuda.grid(1)
    if place < indices.shape[0]:
        indices[place] = order[kept[place]] if place < count[0] else -1


INDICES = Kernel(_indices, "void(int32[::1], int32[::1], int32[::1], int64[::1])")
